"""Everything one group of a sweep tells: its wells, its law, the two errors of extrapolation, and replicates of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from hpt.metrics.basin import CLIFF, EDGE, LN2, SKEW_PRIOR, SKEW_RANGE, WRONG_SIGN, Points, WellFit, common_skew, phi2
from hpt.metrics.kink import CURVATURE, EVIDENT, ShapeDoubt, shape_doubt
from hpt.metrics.law import LN_H, LN_LR, LawFit, fit_laws, predict
from hpt.metrics.replicates import Noise, Scatter, SharedDraws, at_known_noise, draw_noise, scatter_of

OUTLIER = 3.5  # residuals beyond so many deviations get less weight
LEAST_P = 0.01  # of an edge width's runs under the law of the others
SKEW_STEPS = 0.1 * np.arange(-8, 9)


@dataclass(frozen=True, eq=False)
class GroupFit:
    """The fit of one group.

    Attributes
    ----------
    key: values of the group columns.
    points: its runs near the optima, every width.
    log2_lr_W, loss_W, h_W: the wells; nan where `points.reason_W` says why.
    fitted: indices of the widths with a well: those that the law is fitted to.
    edges: indices of the widths whose optimum lies beyond an edge and whose runs the law is fitted to all the same.
    skew: s, common to the widths with a well.
    law: joint fit, B = 1; None below two widths with a well.
    E, E_extrap (nats), octaves: RMS residual of the law; the same at the largest width when left out; log2 η* predicted
        minus measured there.
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


@dataclass(frozen=True, eq=False)
class Replicates:
    """B replicates of a group's figures, centred on its estimates; float32 to keep many groups small.

    Attributes
    ----------
    log2_lr_BxW, loss_BxW, h_BxW: nan for widths without a well; ±inf where an optimum left the rates tried.
    theta_Bx7: law's parameters, as in :class:`hpt.metrics.law.LawFit`. at_bound_B: L∞ or α at a bound.
    E_B, E_extrap_B: the errors as drawn, at the noise estimated; octaves_B: signed, centred.
    shape_B: octaves that doubt about the basins' shape moves every η* of the group by; in log2_lr_BxW and theta_Bx7.
    inflation: factor by which misfit of the law widens its intervals.
    kinked: whether a kinked basin fits evidently better than the smooth one.
    method: "parametric", "seeds", or both with a plus where some learning rates have a single run.
    """

    log2_lr_BxW: np.ndarray
    loss_BxW: np.ndarray
    h_BxW: np.ndarray
    theta_Bx7: np.ndarray
    at_bound_B: np.ndarray
    E_B: np.ndarray
    E_extrap_B: np.ndarray
    octaves_B: np.ndarray
    shape_B: np.ndarray
    inflation: float
    kinked: bool
    method: str


def fit_group(key: tuple[Any, ...], points: Points) -> GroupFit:
    """Fit wells, then the law; widths whose well opens downwards or lies off the grid are named and left out."""
    points = replace(points, **{n: getattr(points, n).copy() for n in ("edge_W", "reason_W", "weight_WxP")})
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
            log2_lr_W[fitted], loss_W[fitted], h_W[fitted] = log2_lr, wells.loss_BxW[0], wells.h_BxW[0]
            curve_WxP = _curve(part, wells.u_BxW[0], wells.loss_BxW[0], wells.h_BxW[0], skew)
            scatter = scatter_of(part.loss_WxP - curve_WxP, part.weight_WxP, part.u_WxP, part.seed_WxP)
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
        E = float(rms_error(predict(law, part) - part.loss_WxP, part)[0])
        others = np.array([common_skew(part.take(slice(-1)))])
        E_extrap, octaves = (float(v[0]) for v in _leave_out(part, part.loss_WxP[None], others))
    return GroupFit(key, points, log2_lr_W, loss_W, h_W, fitted, edges, skew, law,
                    *(np.nan if v is None else v for v in (E, E_extrap, octaves)), scatter, shape)


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
        residual = np.abs(_curve(part, wells.u_BxW[0], wells.loss_BxW[0], wells.h_BxW[0], s) - part.loss_WxP)
        inside = part.weight_WxP > 0
        scale = 1.4826 * np.median(residual[inside]) * np.sqrt(N / (N - 3 * W - 1))
        weight = np.minimum(1.0, OUTLIER * max(scale, 1e-9) / np.maximum(residual, 1e-300))
        part = replace(part, weight_WxP=np.where(inside, weight, 0.0))
    return part


def _law(points: Points, fitted, skew: float, scatter: Scatter) -> tuple[np.ndarray, LawFit]:
    """Which edge widths take part in the law, and the law: those with three learning rates in the window, whose runs
    the law of the other widths does not contradict."""

    def fit(edges):
        part = points.take(np.append(fitted, edges))
        return fit_laws(part, WellFit(part, skew)(part.loss_WxP[None]), edges=len(edges))

    none = np.array([], int)
    law = fit(none)
    rates = np.array([len(np.unique(u[w > 0])) for u, w in zip(points.u_WxP, points.weight_WxP, strict=True)])
    edges = np.flatnonzero((points.reason_W == EDGE) & (rates >= 3))
    if not len(edges) or len(fitted) < 3 or scatter.total_df < 1:
        return none, law
    wider = fit(edges)
    added = (wider.cost_B[0] - law.cost_B[0]) / (3 * len(edges))
    noise = max(scatter.total / scatter.total_df, 1e-12)
    agree = stats.f.sf(added / noise, 3 * len(edges), scatter.total_df) >= LEAST_P
    return (edges, wider) if agree else (none, law)


def _curve(points: Points, u_W, loss_W, h_W, skew):
    """Loss of the wells at every run, nats, (W, P)."""
    u = points.u_WxP - u_W[:, None]
    return loss_W[:, None] + h_W[:, None] * u**2 * phi2(np.clip(skew * u, -50, 50))


def rms_error(residual_BxWxP, points: Points):
    inside = points.weight_WxP > 0
    return np.sqrt((residual_BxWxP**2 * inside).sum((1, 2)) / inside.sum())


def _leave_out(part: Points, loss_BxWxP, skews, skew_cost_S=None, around=None):
    """E_extrap and signed octave error at the largest width of `part`; nan below four and three widths."""
    B, W = len(loss_BxWxP), len(part.scale_W)
    nothing = np.full(B, np.nan)
    if W < 3:
        return nothing, nothing
    pooled = np.arange(W) < W - 1
    wells = WellFit(part, skews, skew_cost_S)(loss_BxWxP, pooled)
    first, last = part.take(slice(-1)), part.take(slice(-1, None))
    law = fit_laws(first, wells.take(slice(-1)), around)
    ln_lr, _, _ = law.wells(last.scale_W)
    octaves = (ln_lr[:, 0] - part.origin_W[-1] * LN2 - wells.u_BxW[:, -1]) / LN2
    if W < 4:
        return nothing, octaves
    return rms_error(predict(law, last) - loss_BxWxP[:, -1:], last), octaves


def replicate(fit: GroupFit, noise: Noise, shared: SharedDraws, rng: np.random.Generator) -> Replicates | None:
    """Draw replicates of the sweep and fit each as the sweep was.

    They are centred on the law, plus that part of the wells' distance from it that noise does not explain (the
    positive-part shrinkage 1 − 1/F), so that a true law is not blamed for noise nor a false one taken for true.
    """
    if not len(fit.fitted) or not np.isfinite(noise.sd):
        return None
    part, K = fit.points.take(fit.fitted), len(fit.fitted)
    u_W, loss_W = (fit.log2_lr_W[fit.fitted] - part.origin_W) * LN2, fit.loss_W[fit.fitted]
    ln_h_W = np.log(fit.h_W[fit.fitted])
    inflation, dof = 1.0, 3 * (len(fit.fitted) + len(fit.edges)) - 7
    if dof > 0:
        runs = (part.weight_WxP > 0).sum() / len(fit.fitted)
        seeds = np.mean([len(np.unique(c[c >= 0])) for c in part.seed_WxP])
        expected = noise.sd**2 + noise.common_sd**2 * runs / seeds * (len(fit.fitted) - 3) / dof
        F = fit.law.cost_B[0] / dof / max(expected, 1e-18)
        share = np.sqrt(max(0.0, 1 - 1 / max(F, 1e-300)))
        if F > 1 and stats.f.sf(F, dof, noise.df) < 0.05:
            inflation = np.sqrt(F)
        ln_lr, loss, h = (v[0] for v in fit.law.wells(part.scale_W))
        u_law = ln_lr - part.origin_W * LN2
        u_W, loss_W = u_law + share * (u_W - u_law), loss + share * (loss_W - loss)
        ln_h_W = np.log(h) + share * (ln_h_W - np.log(h))
    if len(fit.edges):
        beyond = fit.points.take(fit.edges)
        ln_lr, loss, h = (v[0] for v in fit.law.wells(beyond.scale_W))
        u_W = np.append(u_W, ln_lr - beyond.origin_W * LN2)
        loss_W, ln_h_W = np.append(loss_W, loss), np.append(ln_h_W, np.log(h))
    used = np.append(fit.fitted, fit.edges)
    every = fit.points.take(used)
    centre_WxP = _curve(every, u_W, loss_W, np.exp(ln_h_W), fit.skew)
    drawn, square_BxF, method = draw_noise(noise, every, shared.take(used), rng)
    loss_BxWxP = centre_WxP + np.concatenate([np.zeros_like(drawn[:1]), drawn])
    skews = np.unique(np.clip(fit.skew + (SKEW_STEPS if fit.scatter.total_df >= 1 else 0.0), *SKEW_RANGE))
    cost = noise.sd**2 * ((skews - SKEW_PRIOR[0]) / SKEW_PRIOR[1]) ** 2
    every_wells = WellFit(every, skews, cost)(loss_BxWxP, np.arange(len(used)) < K)
    wells, loss_BxWxP = every_wells.take(slice(K)), loss_BxWxP[:, :K]
    W, B = len(fit.points.scale_W), len(drawn)

    def centred(value_W, replicates, inflate=1.0):
        return value_W + inflate * (replicates[1:] - replicates[0])

    out = np.full((3, B, W), np.nan)
    out[0][:, fit.fitted] = centred(fit.log2_lr_W[fit.fitted], wells.u_BxW / LN2)
    out[1][:, fit.fitted] = centred(fit.loss_W[fit.fitted], wells.loss_BxW)
    out[2][:, fit.fitted] = fit.h_W[fit.fitted] * wells.h_BxW[1:] / wells.h_BxW[0]
    shape_lr_B = fit.shape.draw(wells.skew_B[1:], noise.sd, rng)
    shape_h_B = CURVATURE * fit.skew * rng.standard_normal(B)
    out[0] += shape_lr_B[:, None]
    out[2] *= np.exp(shape_h_B)[:, None]
    lowest_W, highest_W = fit.points.tried_Wx2.T
    beyond_W = np.where(fit.points.cliff_W, highest_W, np.inf)
    out[0] = np.where(out[0] < lowest_W, -np.inf, np.where(out[0] > highest_W, beyond_W, out[0]))
    theta, bound, E, E_extrap, octaves = np.full((B, 7), np.nan), np.zeros(B, bool), *np.full((3, B), np.nan)
    if fit.law is not None:
        law = fit_laws(every, every_wells, fit.law.theta_Bx7[0] if dof > 0 else None, len(fit.edges))
        theta = centred(fit.law.theta_Bx7[0], law.theta_Bx7, inflation)
        theta[:, LN_LR] += LN2 * shape_lr_B
        theta[:, LN_H] += shape_h_B
        bound = law.at_bound()[1:]
        E = at_known_noise(rms_error(predict(law, part) - loss_BxWxP, part)[1:], square_BxF)
        E_extrap, octaves = _leave_out(part, loss_BxWxP, skews, cost, fit.law.theta_Bx7[0] if dof > 0 else None)
        E_extrap, octaves = at_known_noise(E_extrap[1:], square_BxF), centred(fit.octaves, octaves)
    single = [np.asarray(v, np.float32) for v in (*out, theta)]
    return Replicates(*single, bound, E, E_extrap, octaves, shape_lr_B, float(inflation),
                      fit.shape.tilt(noise.sd) < -EVIDENT, method)
