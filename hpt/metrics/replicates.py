"""Replicates of a sweep: what its figures might have been, had other noise fallen on the same laws.

Each replicate is the fitted curves plus noise drawn afresh (:mod:`hpt.metrics.bootstrap`), fitted as
the sweep was; what noise does not tell is drawn along: the basins' shape (:mod:`hpt.metrics.kink`) and
bends of the laws (:mod:`hpt.metrics.bend`).

Letters: B replicates, W widths, P runs of a width, K widths with a well, D the centre and the
replicates after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy import (
    append,
    arange,
    clip,
    concatenate,
    diff,
    errstate,
    exp,
    float32,
    full,
    inf,
    isfinite,
    isnan,
    log,
    log2,
    mean,
    nan,
    nan_to_num,
    ndarray,
    quantile,
    sqrt,
    stack,
    unique,
    where,
    zeros,
    zeros_like,
)
from scipy import stats

from hpt.metrics import figures
from hpt.metrics.basin import LN2
from hpt.metrics.bend import Bend, loss_bend, mean_slope
from hpt.metrics.bootstrap import SharedDraws, at_known_noise, draw_noise
from hpt.metrics.group import GroupFit
from hpt.metrics.intervals import Z_95
from hpt.metrics.kink import CURVATURE, EVIDENT
from hpt.metrics.law import ALPHA, BETA, L_INF, LN_H, LN_LR, LawFit, fit_laws, refit
from hpt.metrics.noise import Noise
from hpt.metrics.wells import SKEW_RANGE, WellFit, losses_at, raised, skew_cost

GRID = "grid"
# Trial skews of a replicate, from the fit's.
SKEW_STEPS = 0.1 * arange(-8, 9)
# Least and largest deviation of an optimum that a bend is weighed against, octaves.
OPTIMUM_SPREAD = (0.03, 5.0)
# The probability under which the misfit of the law is no chance.
MISFIT_P = 0.05


@dataclass(frozen=True, eq=False)
class Replicates:
    """B replicates of a group's figures, centred on its estimates; float32 to keep many groups
    small.

    Attributes
    ----------
    log2_lr_BxW, loss_BxW, h_BxW: nan for widths without a well; ±inf where an optimum left the
        rates tried.
    theta_Bx7: law's parameters, as in :class:`hpt.metrics.law.LawFit`.
    at_bound_B, slope_at_bound_B: L∞ or α at a bound; β or γ_log.
    E_B, E_extrap_B: the errors as drawn, at the noise estimated, nats.
    octaves_B: signed, centred.
    bend: how η* may leave the law; None below two widths.
    shape_B: octaves that doubt about the basins' shape moves every η* of the group by; in
        log2_lr_BxW and theta_Bx7.
    inflation: factor by which misfit of the law widens its intervals.
    kinked: whether a kinked basin fits evidently better than the smooth one.
    method: as in :class:`Draws`, or "grid": nothing but log2 η* is known, drawn evenly between the
        neighbours of each width's best learning rate.
    """

    log2_lr_BxW: ndarray
    loss_BxW: ndarray
    h_BxW: ndarray
    theta_Bx7: ndarray
    at_bound_B: ndarray
    slope_at_bound_B: ndarray
    E_B: ndarray
    E_extrap_B: ndarray
    octaves_B: ndarray
    shape_B: ndarray
    bend: Bend | None
    inflation: float = 1.0
    kinked: bool = False
    method: str = GRID


def replicate(fit: GroupFit, noise: Noise, shared: SharedDraws, rng) -> Replicates | None:
    """Draw replicates of the sweep and fit each as the sweep was. Where the noise is unknown they know
    the brackets of the optima alone; None where there is no optimum.

    They are centred on the law, plus that part of the wells' distance from it that noise does not
    explain (the positive-part shrinkage 1 − 1/F), so that a true law is not blamed for noise nor a
    false one taken for true.
    """
    if not len(fit.fitted):
        return None
    if not isfinite(noise.sd):
        return _from_brackets(fit, len(shared.sd_B), rng)
    widths = append(fit.fitted, fit.edges)
    points = fit.points.take(widths)
    (u_W, loss_W, ln_h_W), inflation = _centre(fit, points, noise)
    centre_1xWxP = losses_at(points, u_W, loss_W, exp(ln_h_W), fit.skew)[None]
    draws = draw_noise(noise, points, shared.take(widths), rng)
    loss_DxWxP = concatenate([centre_1xWxP, centre_1xWxP + draws.noise_BxWxP])
    trials = _trial_skews(fit, noise)
    with_well_W = arange(len(widths)) < len(fit.fitted)
    wells = WellFit(points, *trials)(loss_DxWxP, pooled=with_well_W)
    shape_B = fit.shape.draw(wells.skew_B[1:], noise.sd, rng)
    ln_h_B = CURVATURE * fit.skew * rng.standard_normal(len(shape_B))
    theta_Bx7, bounds_2xB, (E_B, E_extrap_B, octaves_B) = _law_figures(
        fit, points, loss_DxWxP, trials, wells, inflation, rng
    )
    theta_Bx7[:, LN_LR] += LN2 * shape_B
    theta_Bx7[:, LN_H] += ln_h_B
    found = _well_figures(fit, wells, shape_B, ln_h_B, rng)
    bend = _bend(fit, found[0] - shape_B[:, None], rng)
    if bend:
        _bend_exponent(fit, bend, found[0], theta_Bx7)
    return Replicates(
        *found,
        theta_Bx7.astype(float32),
        *bounds_2xB,
        at_known_noise(E_B, draws.square_BxF),
        at_known_noise(E_extrap_B, draws.square_BxF),
        octaves_B,
        shape_B,
        bend,
        inflation,
        kinked=fit.shape.tilt(noise.sd) < -EVIDENT,
        method=draws.method,
    )


def _centre(fit, points, noise):
    """The wells that replicates scatter about, as rows u (ln η from the origin), L* and ln h at the
    widths of `points`; and the inflation of the law's intervals."""
    u_K, loss_K, h_K = fit.wells
    well_3xK = stack([u_K, loss_K, log(h_K)])
    freedom = 3 * len(points.scale_W) - 7
    if freedom <= 0:
        return well_3xK, 1.0
    F = fit.law.cost_B[0] / freedom / max(_expected_square(fit, noise, freedom), 1e-18)
    share = sqrt(max(0.0, 1 - 1 / max(F, 1e-300)))
    u_1xW, loss_1xW, h_1xW = fit.law.wells_at(points)
    centre_3xW = concatenate([u_1xW, loss_1xW, log(h_1xW)])
    K = len(fit.fitted)
    centre_3xW[:, :K] += share * (well_3xK - centre_3xW[:, :K])
    misfits = F > 1 and stats.f.sf(F, freedom, noise.df) < MISFIT_P
    return centre_3xW, sqrt(F) if misfits else 1.0


def _expected_square(fit, noise, freedom):
    """What noise alone makes of the law's cost for each degree of freedom, nats²."""
    part = fit.basins
    K = len(fit.fitted)
    runs_a_seed = part.inside_WxP.sum() / K / mean(part.seeds_W)
    return noise.sd**2 + noise.common_sd**2 * runs_a_seed * (K - 3) / freedom


def _trial_skews(fit, noise):
    """The skews that a replicate may have, around the fit's, and their cost, nats²."""
    steps = SKEW_STEPS if fit.basins.spare >= 1 else 0.0
    skew_S = unique(clip(fit.skew + steps, *SKEW_RANGE))
    return skew_S, skew_cost(skew_S, noise.sd**2)


def _centred(estimate, drawn_D, inflation=1.0):
    """Replicates about the estimate, as far from it as they were drawn from their centre."""
    return estimate + inflation * (drawn_D[1:] - drawn_D[0])


def _well_figures(fit, wells, shape_B, ln_h_B, rng):
    """log2 η*, L* and h of every width, (3, B, W), with the doubt about the basins' shape."""
    part = fit.basins
    wells = wells.take(slice(len(fit.fitted)))
    log2_lr_BxK = _centred(fit.log2_lr_W[fit.fitted], wells.u_BxW / LN2) + shape_B[:, None]
    lowest_K, highest_K = part.tried_Wx2.T
    beyond_K = where(part.cliff_W, highest_K, inf)
    log2_lr_BxK = where(log2_lr_BxK > highest_K, beyond_K, log2_lr_BxK)
    log2_lr_BxK = where(log2_lr_BxK < lowest_K, -inf, log2_lr_BxK)
    low_K, high_K = part.bracket_Wx2.T
    bracketed_BxK = low_K + (high_K - low_K) * rng.uniform(size=log2_lr_BxK.shape)
    log2_lr_BxK = where(part.narrow_W, bracketed_BxK, log2_lr_BxK)
    loss_BxK = _centred(fit.loss_W[fit.fitted], wells.loss_BxW)
    h_BxK = fit.h_W[fit.fitted] * wells.h_BxW[1:] / wells.h_BxW[0] * exp(ln_h_B)[:, None]
    found = full((3, len(shape_B), len(fit.log2_lr_W)), nan, float32)
    found[..., fit.fitted] = log2_lr_BxK, loss_BxK, h_BxK
    return found


def _from_brackets(fit, B, rng):
    """Replicates of log2 η* alone, and of the straight line through them."""
    wells_3xBxW = full((3, B, len(fit.log2_lr_W)), nan, float32)
    low_K, high_K = fit.basins.bracket_Wx2.T
    log2_lr_BxK = rng.uniform(low_K, high_K, (B, len(low_K)))
    wells_3xBxW[0, :, fit.fitted] = log2_lr_BxK.T
    theta_Bx7 = full((B, 7), nan)
    if fit.law is not None:
        z_K = fit.law.z(fit.basins.scale_W)
        ln_lr_BxK = LN2 * log2_lr_BxK
        theta_Bx7[:, BETA] = -mean_slope(z_K, ln_lr_BxK)
        theta_Bx7[:, LN_LR] = ln_lr_BxK.mean(1) + theta_Bx7[:, BETA] * z_K.mean()
    never_2xB = zeros((2, B), bool)
    unknown_3xB = full((3, B), nan)
    bend = _bend(fit, wells_3xBxW[0], rng)
    return Replicates(*wells_3xBxW, theta_Bx7, *never_2xB, *unknown_3xB, zeros(B), bend)


def _bend(fit, own_BxW, rng):
    """The bend of a group whose replicates of log2 η* are `own_BxW`, doubt about shape aside."""
    if fit.law is None:
        return None
    ends = quantile(own_BxW[:, fit.fitted], (0.025, 0.975), axis=0, method="nearest")
    with errstate(invalid="ignore"):
        spread_W = nan_to_num(diff(ends, axis=0)[0] / (2 * Z_95), nan=inf)
    variance_W = clip(spread_W, *OPTIMUM_SPREAD) ** 2
    return Bend.of(log2(fit.basins.scale_W), fit.left_W, variance_W, len(own_BxW), rng)


def _bend_exponent(fit, bend, log2_lr_BxW, theta_Bx7):
    """Turn the replicates' laws to the mean exponent of their bent curves over the sizes."""
    left_BxW = distance_from_law(replace(fit.law, theta_Bx7=theta_Bx7), fit, log2_lr_BxW)
    theta_Bx7[:, BETA] -= mean_slope(bend.x_W, bend.drawn(bend.x_W, left_BxW))


def distance_from_law(law: LawFit, fit: GroupFit, log2_lr_BxW) -> ndarray:
    """Octaves (B, W) between replicates of log2 η* of every width and their laws, at those with a
    well; 0 where a replicate has none."""
    left_BxW = log2_lr_BxW[:, fit.fitted] - law.log2_lr(fit.basins.scale_W)
    return where(isfinite(left_BxW), left_BxW, 0.0)


def _law_figures(fit, points, loss_DxWxP, trials, wells, inflation, rng):
    """What the laws of the replicates say: their parameters, which are at a bound, and E, E_extrap
    and the octave error. The parameters are those of losses that have a bend each."""
    if fit.law is None:
        nothing_7xB = full((7, len(loss_DxWxP) - 1), nan)
        return nothing_7xB.T, zeros_like(nothing_7xB[:2], bool), nothing_7xB[:3]
    theta = fit.law.theta_Bx7[0]
    law = fit_laws(points, wells, len(fit.edges))
    part = fit.basins
    loss_DxWxP = loss_DxWxP[:, : len(fit.fitted)]
    E_D = figures.E(law, part, loss_DxWxP)
    E_extrap_D, octaves_D = figures.E_extrap(part, loss_DxWxP, *trials)
    law = _with_loss_bend(law, points, wells, theta, rng)
    theta_Bx7 = _centred(theta, law.theta_Bx7, inflation)
    octaves_B = _centred(fit.octaves, octaves_D)
    bounds_2xD = stack([law.at_bound(), law.slope_at_bound()])
    return theta_Bx7, bounds_2xD[:, 1:], (E_D[1:], E_extrap_D[1:], octaves_B)


def _with_loss_bend(law, points, wells, theta, rng):
    """The laws of D sweeps refitted to reducible losses that bend, all but the first's."""
    if isnan(theta[ALPHA]):
        return law
    loss_1xW = replace(law, theta_Bx7=theta[None]).loss(points.scale_W)
    x_W = log2(points.scale_W)
    bend_DxW = loss_bend(x_W, theta[ALPHA], len(wells.skew_B), rng)
    bend_DxW[0] = 0.0
    return refit(law, points, raised(wells, (loss_1xW - theta[L_INF]) * bend_DxW))
