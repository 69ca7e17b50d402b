"""Figures with an interval and a verdict: what a group's sweep determines, and by name what not.

A figure's method says how its interval was made: replicates that are "parametric" or of "seeds"
resampled (:mod:`hpt.metrics.replicates`), read as a central interval or, where it says so, as a
"ratio" or "folded" at 0; "grid" is a bracket by learning rates tried, "definition" a figure that
cannot vary. Its n is what it rests on: runs for E (all in the basins), E_extrap (those of the
largest width) and a width's basin, widths for everything that the law says.

Letters: B replicates, W widths, P runs of a width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpt.metrics import figures
from hpt.metrics.basin import CLIFF, LN2
from hpt.metrics.group import GroupFit
from hpt.metrics.noise import Noise
from hpt.metrics.quantities import estimate_text
from hpt.metrics.replicates import NOISE_UNKNOWN, Replicates, interval, ratio_interval

FEW_WIDTHS = "too few widths"
AT_BOUND = "L∞ at a bound"
TOO_WIDE = "interval wider than the reducible loss"
OPEN = "interval open: the optimum may lie off the grid"
UNEQUAL = "the replicates differ a hundredfold"
LACK_OF_FIT = "lack of fit: a basin with a kink at its optimum fits better"
NO_REFERENCE = "the reference has no such figure"
GRID = "grid"
DEFINITION = "definition"

# In the order of a report's columns.
FIGURES = ("E", "E_extrap", "octave_error", "kappa", "alpha", "beta", "gamma", "gamma_log", "R")
# Widths with a well that each needs.
LEAST_WIDTHS = dict.fromkeys(FIGURES, 3) | {"E_extrap": 4, "beta": 2, "gamma": 2, "gamma_log": 2}
UNKNOWN = (np.nan, np.nan)
COLUMNS = ("", "_low", "_high", "_determined", "_reason", "_method", "_n")


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a report and all that is known of it.

    Attributes
    ----------
    fit: its wells and its law.
    noise: of one run.
    replicates: of its figures; None where the noise is unknown.
    reference: index in the report of the group that its R compares with.
    """

    fit: GroupFit
    noise: Noise
    replicates: Replicates | None
    reference: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Values of the group columns."""
        return self.fit.key

    @property
    def method(self) -> str:
        """How its replicates were drawn; "" where there are none."""
        return self.replicates.method if self.replicates else ""

    @property
    def runs_W(self) -> np.ndarray:
        """How many runs lie in the basin of each width."""
        return self.fit.points.inside_WxP.sum(1)

    @property
    def law_widths(self) -> int:
        """How many widths the law is fitted to."""
        return len(self.fit.fitted) + len(self.fit.edges)

    def drawn(self, name: str, at=slice(None)) -> np.ndarray | None:
        """An attribute of the replicates at an index of its last axis, as float64; None where there
        are none."""
        return getattr(self.replicates, name)[..., at].astype(float) if self.replicates else None


@dataclass(frozen=True)
class Figure:
    """An estimate, its interval, and whether the data determine it; nan and a reason where they say
    nothing. `method` made the interval ("" where there is none) and `n` runs or widths are what it
    rests on: see above."""

    estimate: float
    low: float
    high: float
    determined: bool
    reason: str
    method: str = ""
    n: int = 0

    @classmethod
    def nothing(cls, reason: str, n: int = 0) -> Figure:
        """No estimate, for a reason."""
        return cls(np.nan, *UNKNOWN, False, reason, n=n)

    @classmethod
    def of(cls, estimate, ends=UNKNOWN, reason: str = "", method: str = "", n: int = 0) -> Figure:
        """Determined unless there is a reason, or an end of the interval is open."""
        low, high = map(float, ends)
        unknown = np.isnan(low) or np.isnan(high)
        if not reason and not np.isfinite([low, high]).all():
            reason = NOISE_UNKNOWN if unknown else OPEN
        method = "" if unknown else method
        return cls(float(estimate), low, high, not reason, reason, method, int(n))

    @classmethod
    def from_row(cls, row: Mapping[str, Any], name: str) -> Figure:
        """The figure that stands in the columns `name`, name_low … of a table's row."""
        return cls(*(row[name + column] for column in COLUMNS))

    def columns(self, name: str) -> dict[str, Any]:
        """As seven columns of a table."""
        return dict(zip((name + column for column in COLUMNS), vars(self).values(), strict=True))

    def interval(self, name: str) -> dict[str, float]:
        """As three columns of a table: the estimate and the ends of its interval."""
        return {name: self.estimate, f"{name}_low": self.low, f"{name}_high": self.high}

    def verdict(self) -> dict[str, Any]:
        """The columns determined, reason, method and n of a table that has one verdict a row."""
        return {name: getattr(self, name) for name in ("determined", "reason", "method", "n")}

    def __str__(self) -> str:
        return estimate_text(self.estimate, self.low, self.high, self.determined)


def bounds(drawn_B: np.ndarray | None, level: float) -> tuple[float, float]:
    """The central interval of replicates, nan where there are none."""
    return UNKNOWN if drawn_B is None else interval(drawn_B, level)


def spanning(estimate: float, ends: tuple[float, float]) -> tuple[float, float]:
    """The interval, widened to hold the estimate."""
    low, high = ends
    return np.minimum(low, estimate), np.maximum(high, estimate)


def group_figures(group: Group, reference: Group, level: float) -> dict[str, Figure]:
    """Every figure of a group, by name; R compares with the reference."""
    figures_but_R = {name: _figure(group, name, level) for name in FIGURES[:-1]}
    return figures_but_R | {"R": _asymptotic_penalty(group, reference, level)}


def _figure(group, name, level):
    fit = group.fit
    lost = fit.points.reason_W[-1]
    if lost and len(fit.fitted) > 1 and name in ("E_extrap", "octave_error"):
        return Figure.nothing(f"{lost} (largest width)")
    if len(fit.fitted) < LEAST_WIDTHS[name]:
        return Figure.nothing(_why_few(fit))
    if name in figures.LAW_FIGURES:
        return _law_figure(group, name, level)
    return _octave_error(group, level) if name == "octave_error" else _error(group, name, level)


def _why_few(fit):
    """Too few widths, and the commonest cause where widths were left out."""
    lost = [reason for reason in fit.points.reason_W if reason]
    return f"{FEW_WIDTHS}: {max(lost, key=lost.count)}" if lost else FEW_WIDTHS


def _law_figure(group, name, level):
    """α, β, γ, γ_log or κ."""
    figure = figures.LAW_FIGURES[name]
    ends = UNKNOWN
    if group.replicates:
        ends = interval(figure(group.drawn("theta_Bx7")), level)
    reason = ""
    if name in ("alpha", "kappa") and _at_bound(group, level):
        reason = AT_BOUND
    estimate = figure(group.fit.law.theta_Bx7)[0]
    return Figure.of(estimate, ends, reason, group.method, group.law_widths)


def _error(group, name, level):
    """E or E_extrap; its interval is a ratio."""
    fit = group.fit
    estimate = getattr(fit, name)
    ends = UNKNOWN
    if group.replicates:
        ends = ratio_interval(estimate, group.drawn(f"{name}_B"), level)
    low, high = ends
    reason = ""
    if high > 100 * low or low > estimate:
        reason = UNEQUAL
        ends = spanning(estimate, ends)
    widths = fit.fitted if name == "E" else fit.fitted[-1:]
    return Figure.of(estimate, ends, reason, f"{group.method}, ratio", group.runs_W[widths].sum())


def _octave_error(group, level):
    """|octaves|: the interval of the signed distance, folded at 0."""
    low, high = bounds(group.drawn("octaves_B"), level)
    ends = sorted((abs(low), abs(high)))
    if low <= 0 <= high:
        ends[0] = 0.0
    fit = group.fit
    return Figure.of(abs(fit.octaves), ends, "", f"{group.method}, folded", len(fit.fitted))


def _at_bound(group, level):
    """Whether L∞ or α sits at a bound, in the fit or in more replicates than an interval leaves
    outside."""
    if group.fit.law.at_bound()[0]:
        return True
    return group.replicates is not None and group.replicates.at_bound_B.mean() > (1 - level) / 2


def _asymptotic_penalty(group, reference, level):
    """R(∞) = L∞ − L∞ of the reference, nats (the irreducible-loss gap of Kalra & Barkeshli 2026).

    Never determined while an L∞ sits at a bound, nor where its interval is wider than the group's
    reducible loss at its largest width.
    """
    fit = group.fit
    if len(fit.fitted) < LEAST_WIDTHS["R"]:
        return Figure.nothing(_why_few(fit))
    if len(reference.fit.fitted) < LEAST_WIDTHS["R"]:
        return Figure.nothing(NO_REFERENCE)
    reason = AT_BOUND if _at_bound(group, level) or _at_bound(reference, level) else ""
    if group is reference:
        return Figure.of(0.0, (0.0, 0.0), reason, DEFINITION, len(fit.fitted))
    ends = UNKNOWN
    if group.replicates and reference.replicates:
        thetas = group.drawn("theta_Bx7"), reference.drawn("theta_Bx7")
        ends = interval(figures.R_inf(*thetas), level)
    _, loss_1x1, _ = fit.law.wells(fit.points.scale_W[-1:])
    reducible = loss_1x1[0, 0] - figures.L_inf(fit.law.theta_Bx7)[0]
    if ends[1] - ends[0] > reducible:
        reason = reason or TOO_WIDE
    estimate = figures.R_inf(fit.law.theta_Bx7, reference.fit.law.theta_Bx7)[0]
    widths = min(group.law_widths, reference.law_widths)
    return Figure.of(estimate, ends, reason, group.method, widths)


def basin_rows(group: Group, level: float, scale: str) -> list[dict[str, Any]]:
    """One row a width: η*, L* and curvature with intervals; open on the side of an edge."""
    return [
        {scale: plain_number(width)} | _basin_row(group, w, level)
        for w, width in enumerate(group.fit.points.scale_W)
    ]


def _basin_row(group, w, level):
    points = group.fit.points
    if points.reason_W[w]:
        log2_lr, loss, curvature = _without_well(points, w, group.runs_W[w])
    else:
        log2_lr, loss, curvature = _well(group, w, level)
    row = log2_lr.interval("log2_lr") | loss.interval("loss") | curvature.interval("curvature")
    return row | {"edge": points.edge_W[w]} | log2_lr.verdict()


def _well(group, w, level):
    """log2 η*, L* and curvature of a width."""
    fit = group.fit
    estimate = fit.log2_lr_W[w]
    ends = spanning(estimate, bounds(group.drawn("log2_lr_BxW", w), level))
    kinked = group.replicates is not None and group.replicates.kinked
    reason = LACK_OF_FIT if kinked else ""
    log2_lr = Figure.of(estimate, ends, reason, group.method, group.runs_W[w])
    loss = Figure.of(fit.loss_W[w], bounds(group.drawn("loss_BxW", w), level))
    return log2_lr, loss, Figure.of(fit.h_W[w], bounds(group.drawn("h_BxW", w), level))


def _without_well(points, w, runs):
    """The same without a well: η* is in a bracket before a cliff, or on a side of an edge."""
    reason = points.reason_W[w]
    nothing = Figure.nothing(reason, int(runs))
    if np.isnan(points.best_W[w]) or not (points.edge_W[w] or reason == CLIFF):
        return nothing, nothing, nothing
    lowest, highest = points.tried_Wx2[w]
    if reason == CLIFF:
        estimate = points.origin_W[w]
        u_P = points.u_WxP[w]
        ends = (estimate + u_P[u_P < 0].max() / LN2, highest)
    elif points.edge_W[w] == "low":
        estimate = lowest
        ends = (-np.inf, lowest)
    else:
        estimate = highest
        ends = (highest, np.inf)
    loss = Figure.of(points.best_W[w], (-np.inf, np.inf))
    return Figure.of(estimate, ends, reason, GRID, runs), loss, nothing


def penalty_rows(group: Group, reference: Group, level: float, scale: str) -> list[dict[str, Any]]:
    """R(n) = L*(n) − L*(n) of the reference at each width, nats; paired replicates."""
    return [
        {scale: plain_number(width)} | _penalty(group, reference, w, level).columns("R")
        for w, width in enumerate(group.fit.points.scale_W)
    ]


def _penalty(group, reference, w, level):
    fit = group.fit
    other = reference.fit
    if fit.points.reason_W[w]:
        return Figure.nothing(fit.points.reason_W[w])
    known = (other.points.scale_W == fit.points.scale_W[w]) & (other.points.reason_W == "")
    if not known.any():
        return Figure.nothing(NO_REFERENCE)
    v = known.argmax()
    runs = group.runs_W[w]
    if group is reference:
        return Figure.of(0.0, (0.0, 0.0), "", DEFINITION, runs)
    ends = UNKNOWN
    if group.replicates and reference.replicates:
        losses = group.drawn("loss_BxW", w), reference.drawn("loss_BxW", v)
        ends = interval(figures.R(*losses), level)
    estimate = figures.R(fit.loss_W[w], other.loss_W[v])
    return Figure.of(estimate, ends, "", group.method, min(runs, reference.runs_W[v]))


def plain_number(value: float) -> float | int:
    """An int where it is whole."""
    return int(value) if float(value).is_integer() else float(value)


def table_of(columns: Sequence[str], rows: Mapping[tuple, list[dict]]) -> pd.DataFrame:
    """Rows of many groups, by their key, as one table; group columns first."""
    records = []
    for key, group_rows in rows.items():
        named = dict(zip(columns, key, strict=True))
        records += [named | row for row in group_rows]
    return pd.DataFrame(records)
