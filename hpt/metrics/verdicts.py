"""Figures with an interval and a verdict: what a group's sweep determines, and by name what not.

A figure's method says how its interval was made: replicates that are "parametric" or of "seeds"
resampled (:mod:`hpt.metrics.bootstrap`), read as a central interval or, where it says so, as a
"ratio" or "folded" at 0; "grid" is a bracket by learning rates tried, "definition" a figure that
cannot vary. Its n is what it rests on: runs for E (all in the basins), E_extrap (those of the
largest width) and a width's basin, widths for everything that the law says.

**Determined** means narrow enough to decide with, and by the data, not by a bound of the fit:

- log2 η*: its optimum is bracketed by runs, and the interval is no wider than 2·octaves, an octave
  either way unless asked otherwise;
- α, β, γ, γ_log, κ: the interval is no wider than SURE_SPAN, or leaves out 0 and is no wider than
  WIDEST_SPAN; none of the law's parameters sits at a bound of the optimizer;
- E, E_extrap: its ends differ less than a hundredfold; the octave error: as log2 η*;
- R(∞): no L∞ sits at a bound, and the interval is no wider than the group's reducible loss;
- L*, h, R(n): the interval is finite.

Letters: B replicates, W widths, N further sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from numpy import empty, flatnonzero, inf, isinf, isnan, log2, nan, ndarray

from hpt.metrics import figures
from hpt.metrics.basin import CLIFF, LN2
from hpt.metrics.bend import mean_slope
from hpt.metrics.group import GroupFit
from hpt.metrics.intervals import Figure, interval, ratio_interval, spanning
from hpt.metrics.law import BETA, LawFit
from hpt.metrics.noise import Noise
from hpt.metrics.replicates import GRID, Replicates, distance_from_law

FEW_WIDTHS = "too few widths"
AT_BOUND = "L∞ at a bound"
SLOPE_AT_BOUND = "an exponent at the bound of the fit"
TOO_WIDE = "interval wider than the reducible loss"
UNEQUAL = "the replicates differ a hundredfold"
LACK_OF_FIT = "lack of fit: a basin with a kink at its optimum fits better"
NO_REFERENCE = "the reference has no such figure"
# By so many deviations of a run its loss is clearly above the best.
CLEAR = 4.0
DEFINITION = "definition"

# Widths of an exponent's interval: narrow enough whatever it holds; too wide even if it leaves out 0.
SURE_SPAN = 1.0
WIDEST_SPAN = 4.0
# In the order of a report's columns.
FIGURES = ("E", "E_extrap", "octave_error", "kappa", "alpha", "beta", "gamma", "gamma_log", "R")
# Widths with a well that each needs.
LEAST_WIDTHS = dict.fromkeys(FIGURES, 3) | {"E_extrap": 4, "beta": 2, "gamma": 2, "gamma_log": 2}


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a report and all that is known of it.

    Attributes
    ----------
    fit: its wells and its law.
    noise: of one run.
    replicates: of its figures; None where the noise is unknown.
    reference: index in the report of the group that its R compares with.
    octaves: how far either way the interval of a determined log2 η* may reach.
    """

    fit: GroupFit
    noise: Noise
    replicates: Replicates | None
    reference: int
    octaves: float = 1.0

    @property
    def key(self) -> tuple:
        """Values of the group columns."""
        return self.fit.key

    @property
    def method(self) -> str:
        """How its replicates were drawn; "" where there are none."""
        return self.replicates.method if self.replicates else ""

    @property
    def runs_W(self) -> ndarray:
        """How many runs lie in the basin of each width."""
        return self.fit.points.inside_WxP.sum(1)

    @property
    def law_widths(self) -> int:
        """How many widths the law is fitted to."""
        return len(self.fit.fitted) + len(self.fit.edges)

    def drawn(self, name: str, at=slice(None)) -> ndarray:
        """An attribute of the replicates at an index of its last axis, as float64; empty where there
        are none."""
        if self.replicates is None:
            return empty((0, 7) if name == "theta_Bx7" else 0)
        return getattr(self.replicates, name)[..., at].astype(float)

    @property
    def theta_1x7(self) -> ndarray:
        """The law's parameters, β the mean exponent of the curve through the optima."""
        theta_1x7 = self.fit.law.theta_Bx7.copy()
        bend = self.replicates.bend
        if not bend.slope_known:
            theta_1x7[0, BETA] -= mean_slope(bend.x_W, bend.correction(bend.x_W, self.fit.left_W))
        return theta_1x7

    @property
    def drawn_law(self) -> LawFit:
        """The laws of its replicates."""
        return replace(self.fit.law, theta_Bx7=self.drawn("theta_Bx7"))

    def log2_lr(self, sizes) -> ndarray:
        """log2 η* (N,) at further sizes: the law, corrected by the curve through the optima."""
        (straight_N,) = self.fit.law.log2_lr(sizes)
        return straight_N + self.replicates.bend.correction(log2(sizes), self.fit.left_W)

    def drawn_log2_lr(self, sizes) -> ndarray:
        """Its replicates (B, N)."""
        law = self.drawn_law
        left_BxW = distance_from_law(law, self.fit, self.drawn("log2_lr_BxW"))
        return law.log2_lr(sizes) + self.replicates.bend.drawn(log2(sizes), left_BxW)

    def bend_worth(self, size: float, level: float) -> float:
        """By how many octaves doubt about the law widens the interval of log2 η* at a size; nan where
        there is none."""
        if self.fit.law is None:
            return nan
        low, high = interval(self.drawn_log2_lr([size])[:, 0], level)
        if isinf([low, high]).any():
            return inf
        least, most = interval(self.drawn_law.log2_lr([size])[:, 0], level)
        return max(0.0, high - low - (most - least))

    def at_bound(self, name: str, level: float) -> bool:
        """Whether L∞ or α ("at_bound"), or β or γ_log ("slope_at_bound"), sits at a bound, in the fit
        or in more replicates than an interval leaves outside."""
        often = self.replicates and getattr(self.replicates, f"{name}_B").mean() > (1 - level) / 2
        return bool(often or getattr(self.fit.law, name)()[0])

    def at(self, width: float):
        """Index of a width (None where it has none), and why there is no well there, "" where there
        is."""
        points = self.fit.points
        if width not in points.scale_W:
            return None, f"not measured at {width:g}"
        (w,) = flatnonzero(points.scale_W == width)
        return w, points.reason_W[w]


def figure_row(group: Group, reference: Group, level: float) -> dict:
    """Every figure of a group, as columns of a table; R compares with the reference."""
    row = {}
    for name in FIGURES:
        row |= _figure(group, reference, name, level).columns(name)
    return row


def _figure(group, reference, name, level):
    fit = group.fit
    lost = fit.points.reason_W[-1]
    if lost and len(fit.fitted) > 1 and name in ("E_extrap", "octave_error"):
        return Figure.nothing(f"{lost} (largest width)")
    if len(fit.fitted) < LEAST_WIDTHS[name]:
        return Figure.nothing(_why_few(fit))
    if name in figures.LAW_FIGURES:
        return _law_figure(group, name, level)
    if name == "R":
        return _asymptotic_penalty(group, reference, level)
    return _octave_error(group, level) if name == "octave_error" else _error(group, name, level)


def _why_few(fit):
    """Too few widths, and the commonest cause where widths were left out."""
    lost = [reason for reason in fit.points.reason_W if reason]
    return f"{FEW_WIDTHS}: {max(lost, key=lost.count)}" if lost else FEW_WIDTHS


def _law_figure(group, name, level):
    """α, β, γ, γ_log or κ."""
    figure = figures.LAW_FIGURES[name]
    (estimate,) = figure(group.theta_1x7)
    ends = spanning(estimate, interval(figure(group.drawn("theta_Bx7")), level))
    reason = ""
    if name in ("alpha", "kappa") and group.at_bound("at_bound", level):
        reason = AT_BOUND
    elif name != "alpha" and group.at_bound("slope_at_bound", level):
        reason = SLOPE_AT_BOUND
    low, high = ends
    widest = SURE_SPAN if low <= 0 <= high else WIDEST_SPAN
    return Figure.of(estimate, ends, reason, group.method, group.law_widths, widest)


def _error(group, name, level):
    """E or E_extrap; its interval is a ratio."""
    fit = group.fit
    estimate = getattr(fit, name)
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
    fit = group.fit
    low, high = interval(group.drawn("octaves_B"), level)
    ends = sorted((abs(low), abs(high)))
    if low <= 0 <= high:
        ends[0] = 0.0
    method = f"{group.method}, folded"
    return Figure.of(abs(fit.octaves), ends, "", method, len(fit.fitted), 2 * group.octaves)


def _asymptotic_penalty(group, reference, level):
    """R(∞) = L∞ − L∞ of the reference, nats (the irreducible-loss gap of Kalra & Barkeshli 2026).

    Never determined while an L∞ sits at a bound, nor where its interval is wider than the group's
    reducible loss at its largest width.
    """
    fit = group.fit
    if len(reference.fit.fitted) < LEAST_WIDTHS["R"]:
        return Figure.nothing(NO_REFERENCE)
    reason = AT_BOUND if group.at_bound("at_bound", level) or reference.at_bound("at_bound", level) else ""
    if group is reference:
        return Figure.of(0.0, (0.0, 0.0), reason, DEFINITION, len(fit.fitted))
    (estimate,) = figures.R_inf(fit.law.theta_Bx7, reference.fit.law.theta_Bx7)
    drawn_B = figures.R_inf(group.drawn("theta_Bx7"), reference.drawn("theta_Bx7"))
    low, high = interval(drawn_B, level)
    reducible = fit.law.loss(fit.points.scale_W[-1])[0, 0] - figures.L_inf(fit.law.theta_Bx7)[0]
    if high - low > reducible:
        reason = reason or TOO_WIDE
    widths = min(group.law_widths, reference.law_widths)
    return Figure.of(estimate, (low, high), reason, group.method, widths)


def basin_rows(group: Group, level: float, scale: str):
    """One row a width: η*, L* and curvature with intervals; open on the side of an edge."""
    return [
        {scale: plain_number(width)} | _basin_row(group, w, level)
        for w, width in enumerate(group.fit.points.scale_W)
    ]


def _basin_row(group, w, level):
    points = group.fit.points
    log2_lr, loss, curvature = _without_well(points, w) if points.reason_W[w] else _well(group, w, level)
    row = log2_lr.interval("log2_lr") | loss.interval("loss") | curvature.interval("curvature")
    return row | {"edge": points.edge_W[w]} | log2_lr.verdict()


def _well(group, w, level):
    """log2 η*, L* and curvature of a width."""
    fit = group.fit
    if group.method in ("", GRID) or fit.points.narrow_W[w]:
        log2_lr = _bracketed(group, w)
    else:
        walls = fit.points.walls(w, CLEAR * group.noise.sd)
        drawn_B = group.drawn("log2_lr_BxW", w)
        log2_lr = optimum(group, fit.log2_lr_W[w], drawn_B, group.runs_W[w], level, walls)
    loss_ends = interval(group.drawn("loss_BxW", w), level)
    loss = Figure.of(fit.loss_W[w], loss_ends)
    h_ends = interval(group.drawn("h_BxW", w), level)
    return log2_lr, loss, Figure.of(fit.h_W[w], h_ends)


def _bracketed(group, w):
    """log2 η* of a width between the neighbours of its best learning rate."""
    points = group.fit.points
    log2_lr = group.fit.log2_lr_W[w]
    ends = spanning(log2_lr, points.bracket_Wx2[w])
    widest = 2 * group.octaves + 1e-6
    return Figure.of(log2_lr, ends, "", GRID, group.runs_W[w], widest)


def optimum(group: Group, log2_lr: float, drawn_B, n: int, level: float, walls=(-inf, inf)) -> Figure:
    """log2 η* from n runs or widths of a group and from its replicates; their interval, widened to
    hold the estimate, an open end closed by a wall. It is not determined where the basins have a
    kink or the law's slope is at a bound."""
    reason = ""
    if group.replicates and group.replicates.kinked:
        reason = LACK_OF_FIT
    low, high = spanning(log2_lr, interval(drawn_B, level))
    lowest, highest = walls
    if isinf(low):
        low = lowest
    if isinf(high):
        high = highest
    ends = spanning(log2_lr, (low, high))
    return Figure.of(log2_lr, ends, reason, group.method, n, 2 * group.octaves)


def _without_well(points, w):
    """The same without a well: η* is in a bracket before a cliff, or on a side of an edge."""
    reason = points.reason_W[w]
    runs = points.inside_WxP[w].sum()
    nothing = Figure.nothing(reason, runs)
    if isnan(points.best_W[w]) or not (points.edge_W[w] or reason == CLIFF):
        return nothing, nothing, nothing
    lowest, highest = points.tried_Wx2[w]
    if reason == CLIFF:
        estimate = points.origin_W[w]
        u_P = points.u_WxP[w]
        ends = estimate + u_P[u_P < 0].max() / LN2, highest
    elif points.edge_W[w] == "low":
        estimate = lowest
        ends = -inf, lowest
    else:
        estimate = highest
        ends = highest, inf
    loss = Figure.of(points.best_W[w], (-inf, inf))
    return Figure.of(estimate, ends, reason, GRID, runs), loss, nothing


def penalty_rows(group: Group, reference: Group, level: float, scale: str):
    """R(n) = L*(n) − L*(n) of the reference at each width, nats; paired replicates."""
    return [
        {scale: plain_number(width)} | _penalty(group, reference, w, level).columns("R")
        for w, width in enumerate(group.fit.points.scale_W)
    ]


def _penalty(group, reference, w, level):
    points = group.fit.points
    if points.reason_W[w]:
        return Figure.nothing(points.reason_W[w])
    v, missing = reference.at(points.scale_W[w])
    if missing:
        return Figure.nothing(NO_REFERENCE)
    runs = group.runs_W[w]
    if group is reference:
        return Figure.of(0.0, (0.0, 0.0), "", DEFINITION, runs)
    estimate = figures.R(group.fit.loss_W[w], reference.fit.loss_W[v])
    drawn_B = figures.R(group.drawn("loss_BxW", w), reference.drawn("loss_BxW", v))
    runs = min(runs, reference.runs_W[v])
    return Figure.of(estimate, interval(drawn_B, level), "", group.method, runs)


def plain_number(value: float) -> float:
    """An int where it is whole."""
    return int(value) if float(value).is_integer() else float(value)


def table_of(columns: Sequence[str], rows: Mapping) -> pd.DataFrame:
    """Lists of rows of many groups, by the groups' keys, as one table; group columns first."""
    records = []
    for key, group_rows in rows.items():
        named = dict(zip(columns, key, strict=True))
        records += [named | row for row in group_rows]
    return pd.DataFrame(records)
