"""Everything one group of a sweep tells: its wells, its law, and the two errors of extrapolation.

Letters: W widths, P runs of a width, B replicates, here 1.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
from numpy import append, arange, flatnonzero, full, isfinite, maximum, nan, ndarray, select, sqrt, where
from scipy import stats

from hpt.metrics import figures
from hpt.metrics.basin import CLIFF, EDGE, LN2, WRONG_SIGN, Points
from hpt.metrics.kink import ShapeDoubt, shape_doubt
from hpt.metrics.law import LawFit, fit_laws
from hpt.metrics.wells import SKEW_PRIOR, common_skew, losses_at, wells_of

# Residuals beyond so many deviations get less weight.
OUTLIER = 3.5
# How far a well may lie below the best run: this share of how far the neighbours are above it, and
# this much, nats.
DEEP = 0.5
DEEP_NATS = 0.02
# The least probability of an edge width's runs under the law of the others.
LEAST_P = 0.01


@dataclass(frozen=True, eq=False)
class GroupFit:
    """The fit of one group.

    Attributes
    ----------
    key: values of the group columns.
    points: its runs near the optima, every width.
    log2_lr_W, loss_W, h_W: the wells; nan where `points.reason_W` says why.
    fitted: indices of the widths with a well: those that the law is fitted to.
    edges: indices of the widths whose optimum lies beyond an edge and whose runs the law is fitted
        to all the same.
    skew: s, common to the widths with a well.
    shape: what a kink would change.
    law: joint fit, B = 1; None below two widths with a well.
    E, E_extrap (nats), octaves: RMS residual of the law; the same at the largest width when left
        out; log2 η* predicted minus measured there.
    """

    key: tuple
    points: Points
    log2_lr_W: ndarray
    loss_W: ndarray
    h_W: ndarray
    fitted: ndarray
    edges: ndarray
    skew: float
    shape: ShapeDoubt
    law: LawFit | None
    E: float = nan
    E_extrap: float = nan
    octaves: float = nan

    @property
    def basins(self) -> Points:
        """The runs of the widths with a well."""
        return self.points.take(self.fitted)

    @property
    def wells(self) -> tuple:
        """ln η* from the origin, L* and h of the widths with a well."""
        u_W = (self.log2_lr_W - self.points.origin_W) * LN2
        return u_W[self.fitted], self.loss_W[self.fitted], self.h_W[self.fitted]

    @property
    def left_W(self) -> ndarray:
        """Octaves between log2 η* of the widths with a well and the law."""
        (log2_lr_W,) = self.law.log2_lr(self.basins.scale_W)
        return self.log2_lr_W[self.fitted] - log2_lr_W

    @property
    def residual_WxP(self) -> ndarray:
        """What the wells leave of the runs of :attr:`basins`, nats, times the root of their weights."""
        part = self.basins
        left_WxP = part.loss_WxP - losses_at(part, *self.wells, self.skew)
        return left_WxP * sqrt(part.weight_WxP)


def fit_group(key: tuple, points: Points) -> GroupFit:
    """Fit wells, then the law; widths whose well opens downwards or lies off the grid are named and
    left out."""
    points = deepcopy(points)
    found_3xW = full((3, len(points.scale_W)), nan)
    skew = SKEW_PRIOR[0]
    shape = ShapeDoubt()
    fitted = flatnonzero(points.reason_W == "")
    while len(fitted):
        part = _down_weight_outliers(points.take(fitted))
        skew = common_skew(part)
        wells = wells_of(part, skew)
        if not _reject(points, fitted, part, wells):
            break
        fitted = flatnonzero(points.reason_W == "")
    if len(fitted):
        points.weight_WxP[fitted] = part.weight_WxP
        found_3xW[:, fitted] = _log2_lr(part, wells), wells.loss_BxW[0], wells.h_BxW[0]
        shape = shape_doubt(part, wells.u_BxW[0], wells.sse_BxW.sum())
    fit = GroupFit(key, points, *found_3xW, fitted, arange(0), skew, shape, law=None)
    return _with_law(fit) if len(fitted) >= 2 else fit


def _log2_lr(part, wells):
    return wells.u_BxW[0] / LN2 + part.origin_W


def _reject(points, fitted, part, wells):
    """Narrow, in `points`, widths whose well does not fit between the runs that bracket their
    optimum; note which have no well after all, and why. Returns whether any."""
    log2_lr_W = _log2_lr(part, wells)
    lowest_W, highest_W = part.tried_Wx2.T
    wrong_W = ~isfinite(wells.h_BxW[0])
    low_W = log2_lr_W < lowest_W - 1e-9
    beyond_W = log2_lr_W > highest_W + 1e-9
    deep_W = part.best_W - wells.loss_BxW[0] > DEEP * part.rise_W + DEEP_NATS
    failed_W = wrong_W | low_W | beyond_W | deep_W
    both_sides_W = (part.u_WxP.min(1) < 0) & (part.u_WxP.max(1) > 0)
    narrow_W = failed_W & both_sides_W & ~part.narrow_W
    for w in fitted[narrow_W]:
        points.narrowed(w)
    high_W = beyond_W & ~part.cliff_W
    falls_W = wrong_W & (part.u_WxP.max(1) == 0)
    cliff_W = part.cliff_W & (falls_W | beyond_W)
    reasons = {"": narrow_W, CLIFF: cliff_W, EDGE: low_W | high_W, WRONG_SIGN: wrong_W}
    points.reason_W[fitted] = select(list(reasons.values()), list(reasons), "")
    points.edge_W[fitted[low_W & ~narrow_W]] = "low"
    points.edge_W[fitted[high_W & ~narrow_W]] = "high"
    return narrow_W.any() or (points.reason_W[fitted] != "").any()


def _down_weight_outliers(part):
    """Huber weights from two rounds of fits; only where enough runs say what the scatter is."""
    if part.spare < 6:
        return part
    inside_WxP = part.inside_WxP
    runs = inside_WxP.sum()
    for _ in range(2):
        skew = common_skew(part)
        wells = wells_of(part, skew)
        if not isfinite(wells.h_BxW).all():
            return part
        curve_WxP = losses_at(part, wells.u_BxW[0], wells.loss_BxW[0], wells.h_BxW[0], skew)
        residual_WxP = abs(curve_WxP - part.loss_WxP)
        scale = 1.4826 * np.median(residual_WxP[inside_WxP]) * sqrt(runs / part.spare)
        weight_WxP = OUTLIER * max(scale, 1e-9) / maximum(residual_WxP, 1e-300)
        weight_WxP = where(inside_WxP, np.minimum(weight_WxP, 1.0), 0.0)
        part = replace(part, weight_WxP=weight_WxP)
    return part


def _with_law(fit):
    """The fit with its law and the errors of that."""
    part = fit.basins
    edges, law = _law(fit)
    loss_1xWxP = part.loss_WxP[None]
    (E,) = figures.E(law, part, loss_1xWxP)
    skew = common_skew(part.take(slice(-1)))
    (E_extrap,), (octaves,) = figures.E_extrap(part, loss_1xWxP, skew)
    return replace(fit, edges=edges, law=law, E=E, E_extrap=E_extrap, octaves=octaves)


def _law(fit):
    """Which edge widths take part in the law, and the law: those with three learning rates in the
    window, whose runs the law of the other widths does not contradict."""
    points = fit.points
    law = _law_with(fit, fit.edges)
    edges = flatnonzero((points.reason_W == EDGE) & (points.rates_W >= 3))
    part = fit.basins
    if not len(edges) or len(fit.fitted) < 3 or part.spare < 1:
        return fit.edges, law
    wider = _law_with(fit, edges)
    added = (wider.cost_B[0] - law.cost_B[0]) / (3 * len(edges))
    variance = max((fit.residual_WxP**2).sum() / part.spare, 1e-12)
    agrees = stats.f.sf(added / variance, 3 * len(edges), part.spare) >= LEAST_P
    return (edges, wider) if agrees else (fit.edges, law)


def _law_with(fit, edges):
    """The law of the widths with a well and of some at an edge."""
    part = fit.points.take(append(fit.fitted, edges))
    return fit_laws(part, wells_of(part, fit.skew), edges=len(edges))
