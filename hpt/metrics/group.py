"""Everything one group of a sweep tells: its wells, its law, the two errors of extrapolation, and
replicates of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from hpt.metrics import figures
from hpt.metrics.basin import (
    CLIFF,
    EDGE,
    LN2,
    SKEW_PRIOR,
    WRONG_SIGN,
    Points,
    WellFit,
    common_skew,
    well_loss,
)
from hpt.metrics.kink import ShapeDoubt, shape_doubt
from hpt.metrics.law import LawFit, fit_laws
from hpt.metrics.noise import Scatter, scatter_of

OUTLIER = 3.5  # residuals beyond so many deviations get less weight
LEAST_P = 0.01  # of an edge width's runs under the law of the others


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
    law: joint fit, B = 1; None below two widths with a well.
    E, E_extrap (nats), octaves: RMS residual of the law; the same at the largest width when left
        out; log2 η* predicted minus measured there.
    scatter: of the runs about their wells. shape: what a kink would change.
    """

    key: tuple[Any, ...]
    points: Points
    log2_lr_W: np.ndarray
    loss_W: np.ndarray
    h_W: np.ndarray
    fitted: np.ndarray
    edges: np.ndarray
    skew: float
    law: LawFit | None
    E: float
    E_extrap: float
    octaves: float
    scatter: Scatter
    shape: ShapeDoubt


def fit_group(key: tuple[Any, ...], points: Points) -> GroupFit:
    """Fit wells, then the law; widths whose well opens downwards or lies off the grid are named and
    left out."""
    points = replace(
        points, **{n: getattr(points, n).copy() for n in ("edge_W", "reason_W", "weight_WxP")}
    )
    W = len(points.scale_W)
    log2_lr_W, loss_W, h_W = np.full((3, W), np.nan)
    skew, scatter, shape = SKEW_PRIOR[0], Scatter(), ShapeDoubt()
    while True:
        fitted = np.flatnonzero(points.reason_W == "")
        if not len(fitted):
            break
        part = _down_weight_outliers(points.take(fitted))
        skew = common_skew(part)
        wells = WellFit(part, skew)(part.loss_WxP[None])
        log2_lr = wells.u_BxW[0] / LN2 + part.origin_W
        wrong = ~np.isfinite(wells.h_BxW[0])
        low, high = log2_lr < part.tried_Wx2[:, 0] - 1e-9, log2_lr > part.tried_Wx2[:, 1] + 1e-9
        if not (wrong | low | high).any():
            points.weight_WxP[fitted] = part.weight_WxP
            log2_lr_W[fitted], loss_W[fitted], h_W[fitted] = (
                log2_lr,
                wells.loss_BxW[0],
                wells.h_BxW[0],
            )
            curve_WxP = curve(part, wells.u_BxW[0], wells.loss_BxW[0], wells.h_BxW[0], skew)
            scatter = scatter_of(
                part.loss_WxP - curve_WxP, part.weight_WxP, part.u_WxP, part.seed_WxP
            )
            shape = shape_doubt(part, wells.u_BxW[0], float(wells.sse_BxW[0].sum()))
            break
        falls = part.cliff_W & (part.u_WxP.max(1) == 0)
        cliff, high = (wrong & falls) | (high & part.cliff_W), high & ~part.cliff_W
        for reason, which in ((WRONG_SIGN, wrong), (EDGE, low | high), (CLIFF, cliff)):
            points.reason_W[fitted[which]] = reason
        points.edge_W[fitted[low]], points.edge_W[fitted[high]] = "low", "high"
    law = E = E_extrap = octaves = None
    edges = np.array([], int)
    if len(fitted) >= 2:
        edges, law = _law(points, fitted, skew, scatter)
        loss_1xWxP = part.loss_WxP[None]
        E = float(figures.E(law, part, loss_1xWxP)[0])
        E_extrap, octaves = figures.E_extrap(part, loss_1xWxP, common_skew(part.take(slice(-1))))
        E_extrap, octaves = float(E_extrap[0]), float(octaves[0])
    return GroupFit(
        key,
        points,
        log2_lr_W,
        loss_W,
        h_W,
        fitted,
        edges,
        skew,
        law,
        *(np.nan if v is None else v for v in (E, E_extrap, octaves)),
        scatter,
        shape,
    )


def _down_weight_outliers(part: Points) -> Points:
    """Huber weights from two rounds of fits; only where enough runs say what the scatter is."""
    N, W = int((part.weight_WxP > 0).sum()), len(part.scale_W)
    if N - 3 * W - 1 < 6:
        return part
    for _ in range(2):
        s = common_skew(part)
        wells = WellFit(part, s)(part.loss_WxP[None])
        if not np.isfinite(wells.h_BxW).all():
            return part
        residual = np.abs(
            curve(part, wells.u_BxW[0], wells.loss_BxW[0], wells.h_BxW[0], s) - part.loss_WxP
        )
        inside = part.weight_WxP > 0
        scale = 1.4826 * np.median(residual[inside]) * np.sqrt(N / (N - 3 * W - 1))
        weight = np.minimum(1.0, OUTLIER * max(scale, 1e-9) / np.maximum(residual, 1e-300))
        part = replace(part, weight_WxP=np.where(inside, weight, 0.0))
    return part


def _law(points: Points, fitted, skew: float, scatter: Scatter) -> tuple[np.ndarray, LawFit]:
    """Which edge widths take part in the law, and the law: those with three learning rates in the
    window, whose runs the law of the other widths does not contradict."""

    def fit(edges):
        part = points.take(np.append(fitted, edges))
        return fit_laws(part, WellFit(part, skew)(part.loss_WxP[None]), edges=len(edges))

    none = np.array([], int)
    law = fit(none)
    rates = np.array(
        [len(np.unique(u[w > 0])) for u, w in zip(points.u_WxP, points.weight_WxP, strict=True)]
    )
    edges = np.flatnonzero((points.reason_W == EDGE) & (rates >= 3))
    if not len(edges) or len(fitted) < 3 or scatter.total_df < 1:
        return none, law
    wider = fit(edges)
    added = (wider.cost_B[0] - law.cost_B[0]) / (3 * len(edges))
    noise = max(scatter.total / scatter.total_df, 1e-12)
    agree = stats.f.sf(added / noise, 3 * len(edges), scatter.total_df) >= LEAST_P
    return (edges, wider) if agree else (none, law)


def curve(points: Points, u_W, loss_W, h_W, skew):
    """Loss of the wells at every run, nats, (W, P)."""
    return well_loss(points.u_WxP - u_W[:, None], loss_W[:, None], h_W[:, None], skew)
