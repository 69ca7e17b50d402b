"""Figures with an interval and a verdict: what a group's sweep determines, and by name what it does
not.

A figure's method says how its interval was made: replicates that are "parametric" or of "seeds"
resampled (:mod:`hpt.metrics.replicates`), read as a central interval or, where it says so, as a
"ratio" or "folded" at 0; "grid" is a bracket by learning rates tried, "definition" a figure that
cannot vary. Its n is what it rests on: runs for E (all in the basins), E_extrap (those of the
    largest width) and a width's basin, widths for everything that the law says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpt.metrics import figures
from hpt.metrics.basin import CLIFF, LN2
from hpt.metrics.group import GroupFit
from hpt.metrics.replicates import NOISE_UNKNOWN, Replicates, interval, ratio_interval

FEW_WIDTHS = "too few widths"
AT_BOUND = "L∞ at a bound"
TOO_WIDE = "interval wider than the reducible loss"
OPEN = "interval open: the optimum may lie off the grid"
UNEQUAL = "the replicates differ a hundredfold"
LACK_OF_FIT = "lack of fit: a basin with a kink at its optimum fits better"
GRID, DEFINITION = "grid", "definition"
NO_REFERENCE = "the reference has no such figure"
FIGURES = ("E", "E_extrap", "octave_error", "kappa", "alpha", "beta", "gamma", "gamma_log", "R")


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
    def nothing(cls, reason: str) -> Figure:
        return cls(np.nan, np.nan, np.nan, False, reason)

    @classmethod
    def of(
        cls,
        estimate: float,
        bounds: tuple[float, float],
        reason: str = "",
        method: str = "",
        n: int = 0,
    ) -> Figure:
        """Determined unless there is a reason, or an end of the interval is open."""
        if not reason and not np.isfinite(bounds).all():
            reason = NOISE_UNKNOWN if np.isnan(bounds).any() else OPEN
        return cls(
            float(estimate),
            *map(float, bounds),
            not reason,
            reason,
            "" if np.isnan(bounds).any() else method,
            int(n),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any], name: str) -> Figure:
        """The figure that stands in the columns `name`, name_low … of a table's row."""
        ends = ("", "_low", "_high", "_determined", "_reason")
        return cls(*(row[name + end] for end in ends))

    def columns(self, name: str) -> dict[str, float | bool | str]:
        """As seven columns of a table."""
        return {
            name: self.estimate,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
            f"{name}_determined": self.determined,
            f"{name}_reason": self.reason,
            f"{name}_method": self.method,
            f"{name}_n": self.n,
        }


def bounds(replicates, level: float) -> tuple[float, float]:
    """The interval, nan where there are no replicates."""
    return (np.nan, np.nan) if replicates is None else interval(replicates, level)


def group_figures(fit: GroupFit, drawn: Replicates | None, level: float) -> dict[str, Figure]:
    """Every figure of a group but R, by name."""
    W = len(fit.fitted)
    if W < 2:
        return {name: Figure.nothing(_why_few(fit)) for name in FIGURES[:-1]}
    theta = fit.law.theta_Bx7[0].astype(float)
    reps = None if drawn is None else drawn.theta_Bx7.astype(float)
    bound = at_bound(fit, drawn, level)
    method, widths = drawn.method if drawn else "", W + len(fit.edges)
    runs_W = (fit.points.weight_WxP[fit.fitted] > 0).sum(1)

    def law(value, needs_alpha=False):
        if needs_alpha and W < 3:
            return Figure.nothing(_why_few(fit))
        ends = bounds(None if reps is None else value(reps), level)
        return Figure.of(
            value(theta), ends, AT_BOUND if needs_alpha and bound else "", method, widths
        )

    def size(estimate, replicates, least, n):
        if least > W:
            return Figure.nothing(_why_few(fit))
        low, high = (
            (np.nan, np.nan) if drawn is None else ratio_interval(estimate, replicates, level)
        )
        if high > 100 * low or low > estimate:
            return Figure.of(
                estimate, (min(low, estimate), max(high, estimate)), UNEQUAL, f"{method}, ratio", n
            )
        return Figure.of(estimate, (low, high), "", f"{method}, ratio", n)

    return {
        "E": size(fit.E, drawn and drawn.E_B, 3, runs_W.sum()),
        "E_extrap": _last_width(fit)
        or size(fit.E_extrap, drawn and drawn.E_extrap_B, 4, runs_W[-1]),
        "octave_error": _last_width(fit) or _folded(fit, drawn, level),
        "kappa": law(figures.kappa, True),
        "alpha": law(figures.alpha, True),
        "beta": law(figures.beta),
        "gamma": law(figures.gamma),
        "gamma_log": law(figures.gamma_log),
    }


def at_bound(fit: GroupFit, drawn: Replicates | None, level: float) -> bool:
    """Whether L∞ or α sits at a bound, in the fit or in more replicates than an interval leaves
    outside."""
    return bool(
        fit.law.at_bound()[0] or (drawn is not None and drawn.at_bound_B.mean() > (1 - level) / 2)
    )


def _why_few(fit: GroupFit) -> str:
    """Too few widths, and the commonest cause where widths were left out."""
    lost = [r for r in fit.points.reason_W if r]
    return f"{FEW_WIDTHS}: {max(lost, key=lost.count)}" if lost else FEW_WIDTHS


def _last_width(fit: GroupFit) -> Figure | None:
    """The reason why nothing can be compared at the largest width, if any."""
    reason = fit.points.reason_W[-1]
    return Figure.nothing(f"{reason} (largest width)") if reason else None


def _folded(fit: GroupFit, drawn: Replicates | None, level: float) -> Figure:
    """|octaves|: the interval of the signed distance, folded at 0."""
    if len(fit.fitted) < 3:
        return Figure.nothing(_why_few(fit))
    low, high = bounds(None if drawn is None else drawn.octaves_B, level)
    ends = sorted((abs(low), abs(high))) if not np.isnan(low) else (np.nan, np.nan)
    return Figure.of(
        abs(fit.octaves),
        (0.0 if low <= 0 <= high else ends[0], ends[1]),
        "",
        f"{drawn.method}, folded" if drawn else "",
        len(fit.fitted),
    )


def asymptotic_penalty(
    fit: GroupFit, drawn, reference: GroupFit, drawn_reference, level: float
) -> Figure:
    """R(∞) = L∞ − L∞ of the reference, nats (the irreducible-loss gap of Kalra & Barkeshli 2026).

    Never determined while an L∞ sits at a bound, nor where its interval is wider than the group's
    reducible loss at its largest width.
    """
    if len(fit.fitted) < 3:
        return Figure.nothing(_why_few(fit))
    if len(reference.fitted) < 3:
        return Figure.nothing(NO_REFERENCE)
    L_inf = figures.L_inf(fit.law.theta_Bx7)[0]
    if fit is reference:
        return Figure.of(
            0.0,
            (0.0, 0.0),
            AT_BOUND if at_bound(fit, drawn, level) else "",
            DEFINITION,
            len(fit.fitted),
        )
    ends = (np.nan, np.nan)
    if drawn is not None and drawn_reference is not None:
        ends = interval(
            figures.R_inf(drawn.theta_Bx7.astype(float), drawn_reference.theta_Bx7), level
        )
    reducible = fit.law.wells(fit.points.scale_W[-1:])[1][0, 0] - L_inf
    reason = ""
    if at_bound(fit, drawn, level) or at_bound(reference, drawn_reference, level):
        reason = AT_BOUND
    elif ends[1] - ends[0] > reducible:
        reason = TOO_WIDE
    widths = min(len(f.fitted) + len(f.edges) for f in (fit, reference))
    return Figure.of(
        figures.R_inf(fit.law.theta_Bx7, reference.law.theta_Bx7)[0],
        ends,
        reason,
        drawn.method if drawn else "",
        widths,
    )


def basin_rows(fit: GroupFit, drawn: Replicates | None, level: float, scale: str) -> list[dict]:
    """One row a width: η*, L* and curvature with intervals; open on the side of an edge."""
    rows = []
    for w, value in enumerate(fit.points.scale_W):
        edge, reason = fit.points.edge_W[w], fit.points.reason_W[w]
        row = {scale: plain_number(value)}
        method = drawn.method if drawn else ""
        if reason:
            lr, loss, h = _without_well(fit, w)
            method = "" if np.isnan(lr[0]) else GRID
        else:
            lr = (
                fit.log2_lr_W[w],
                *bounds(None if drawn is None else drawn.log2_lr_BxW[:, w], level),
            )
            loss = (fit.loss_W[w], *bounds(None if drawn is None else drawn.loss_BxW[:, w], level))
            h = (fit.h_W[w], *bounds(None if drawn is None else drawn.h_BxW[:, w], level))
            lr = (lr[0], min(lr[:2]), max(lr[::2])) if drawn else lr
            reason = LACK_OF_FIT if drawn and drawn.kinked else Figure.of(lr[0], lr[1:]).reason
        for name, triple in (("log2_lr", lr), ("loss", loss), ("curvature", h)):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), map(float, triple), strict=True))
        n = _runs_at(fit, w)
        rows.append(
            row
            | {"edge": edge, "determined": not reason, "reason": reason, "method": method, "n": n}
        )
    return rows


def _without_well(fit: GroupFit, w: int) -> tuple[tuple, tuple, tuple]:
    """What is known of η* and L* at a width without a well: a side for an edge, a bracket before a
    cliff."""
    points, nothing = fit.points, (np.nan,) * 3
    best, edge = points.best_W[w], points.edge_W[w]
    if points.reason_W[w] == CLIFF:
        u = points.u_WxP[w]
        at = points.origin_W[w]
        return (
            (at, at + u[u < 0].max() / LN2, points.tried_Wx2[w, 1]),
            (best, -np.inf, np.inf),
            nothing,
        )
    if not edge or np.isnan(best):
        return nothing, nothing, nothing
    at = points.tried_Wx2[w, int(edge == "high")]
    side = (at, -np.inf, at) if edge == "low" else (at, at, np.inf)
    return side, (best, -np.inf, np.inf), nothing


def penalty_rows(
    fit: GroupFit, drawn, reference: GroupFit, drawn_reference, level: float, scale: str
) -> list[dict]:
    """R(n) = L*(n) − L*(n) of the reference at each width, nats; paired replicates."""
    rows = []
    for w, value in enumerate(fit.points.scale_W):
        other = np.flatnonzero(reference.points.scale_W == value)
        known = len(other) and not reference.points.reason_W[other[0]]
        reason = fit.points.reason_W[w] or ("" if known else NO_REFERENCE)
        if reason:
            figure = Figure.nothing(reason)
        elif fit is reference:
            figure = Figure.of(0.0, (0.0, 0.0), "", DEFINITION, _runs_at(fit, w))
        else:
            v, ends = other[0], (np.nan, np.nan)
            if drawn is not None and drawn_reference is not None:
                ends = interval(
                    figures.R(drawn.loss_BxW[:, w].astype(float), drawn_reference.loss_BxW[:, v]),
                    level,
                )
            method, n = drawn.method if drawn else "", min(_runs_at(fit, w), _runs_at(reference, v))
            figure = Figure.of(figures.R(fit.loss_W[w], reference.loss_W[v]), ends, "", method, n)
        rows.append({scale: plain_number(value)} | figure.columns("R"))
    return rows


def _runs_at(fit: GroupFit, w: int) -> int:
    """Runs in the basin of a width."""
    return int((fit.points.weight_WxP[w] > 0).sum())


def plain_number(value: float) -> float | int:
    """An int where it is whole."""
    return int(value) if float(value).is_integer() else float(value)


def table_of(keys: list[tuple], columns: tuple[str, ...], rows: list[list[dict]]) -> pd.DataFrame:
    """Rows of many groups as one table, group columns first."""
    named = [dict(zip(columns, key, strict=True)) for key in keys]
    return pd.DataFrame(
        [name | row for name, group in zip(named, rows, strict=True) for row in group]
    )
