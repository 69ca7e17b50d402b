"""Noise of a sweep, replicates of it, and intervals from them.

Where seeds are few the bootstrap is parametric: the noise is the scatter of all runs in a group's
    basins about their
wells (repeats and lack of fit together), its uncertainty is drawn along (σ² as df·σ̂²/χ²_df, which
widens intervals as Student's t does), and every replicate is the fitted curve plus fresh noise.
What runs of one seed and width share (:mod:`hpt.metrics.noise`) is drawn once for all groups where
seeds are labelled: it cancels in differences.

Where seeds are many enough, each width's seeds are resampled as a whole, alike in all groups: the
deviations of a seed's runs from the means of their cells, times one random weight. The weights are
normal (a smoothed bootstrap), times √(k/(k − 1)) for the means' own freedom and √(ν/χ²_ν), ν = k −
1, for the variance's, so that at one width k seeds give the interval of Student's t, whatever the
noise of a seed's runs has in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import nnls

from hpt.errors import TableError, did_you_mean
from hpt.metrics import figures
from hpt.metrics.basin import LN2, SKEW_PRIOR, SKEW_RANGE, Points, WellFit
from hpt.metrics.group import GroupFit, curve
from hpt.metrics.kink import CURVATURE, EVIDENT
from hpt.metrics.law import LN_H, LN_LR, fit_laws
from hpt.metrics.noise import CommonNoise, Noise

NOISE_UNKNOWN = "noise unknown: no run to spare beyond the fit's own freedom"
PARAMETRIC, SEEDS = "parametric", "seeds"
LEAST_SEEDS = 5  # from which "auto" resamples them: docs/coverage.md
WIDEST = 10.0  # factor by which few seeds may widen a replicate's noise: beyond it there is no well


@dataclass(frozen=True, eq=False)
class SharedDraws:
    """What B replicates have in common over groups, at W scales and S seeds.

    Attributes
    ----------
    common_BxWxS: noise that runs of one seed share, nats; sd_B: the deviation drawn for it.
    weight_BxWxS: of each seed's deviations where seeds are resampled, widen_BxW: what these have
        been widened by; else None.
    """

    common_BxWxS: np.ndarray
    sd_B: np.ndarray
    weight_BxWxS: np.ndarray | None = None
    widen_BxW: np.ndarray | None = None

    @classmethod
    def draw(
        cls, common: CommonNoise, shape: tuple[int, int, int], rng, seeds_W=None
    ) -> SharedDraws:
        """`seeds_W`: number of seeds at each scale, for resampling them."""
        common_BxWxS, sd_B = common.draw(shape, rng)
        if seeds_W is None:
            return cls(common_BxWxS, sd_B)
        df_W = np.maximum(np.asarray(seeds_W) - 1.0, 1.0)
        widen_BxW = np.minimum(np.sqrt(df_W / rng.chisquare(df_W, shape[:2])), WIDEST)
        return cls(common_BxWxS, sd_B, widen_BxW[..., None] * rng.standard_normal(shape), widen_BxW)

    def take(self, scales) -> SharedDraws:
        """The same at some of the scales."""
        return SharedDraws(
            self.common_BxWxS[:, scales],
            self.sd_B,
            *(None if v is None else v[:, scales] for v in (self.weight_BxWxS, self.widen_BxW)),
        )


def draw_noise(noise: Noise, points: Points, shared: SharedDraws, rng: np.random.Generator):
    """Fresh noise for B replicates of a group's runs, nats, (B, W, P); what each replicate has
    drawn above the noise known, as squares (B, F) that are 1 or thereabouts on average; and the
    method."""
    B, code_WxP = len(shared.sd_B), np.maximum(points.seed_WxP, 0)[None]
    widen_B = np.sqrt(noise.df / rng.chisquare(noise.df, B))
    drawn = noise.sd * widen_B[:, None, None] * rng.standard_normal((B, *points.loss_WxP.shape))
    squares, method = [widen_B**2], PARAMETRIC
    if shared.sd_B.any():
        drawn += np.take_along_axis(shared.common_BxWxS, code_WxP, axis=2)
        squares.append(shared.sd_B**2 / np.mean(shared.sd_B**2))
    repeats_WxP = repeats(points)
    if shared.weight_BxWxS is not None and (repeats_WxP > 1).any():
        weight_BxWxP = np.take_along_axis(shared.weight_BxWxS, code_WxP, axis=2)
        drawn = np.where(repeats_WxP > 1, noise.raised * _deviations(points) * weight_BxWxP, drawn)
        single = (repeats_WxP == 1).any()
        method = f"{SEEDS} + {PARAMETRIC}" if single else SEEDS
        squares = [*(squares if single else []), *(shared.widen_BxW**2).T]
    return drawn, np.stack(squares, axis=1), method


def repeats(points: Points):
    """How many runs (W, P) share each run's learning rate; 0 where padded."""
    return _same_rate(points).sum(-1) * (points.weight_WxP > 0)


def _same_rate(points: Points):
    """Whether a run (second P) is inside and has another's (first P) learning rate, (W, P, P)."""
    near_WxPxP = np.abs(points.u_WxP[:, :, None] - points.u_WxP[:, None]) < 1e-6
    return near_WxPxP & (points.weight_WxP > 0)[:, None]


def _deviations(points: Points):
    """Each run's distance from the mean of its learning rate times √(k/(k − 1)), nats (W, P)."""
    k_WxP = np.maximum(repeats(points), 1)
    mean_WxP = (_same_rate(points) * points.loss_WxP[:, None]).sum(-1) / k_WxP
    return (
        (points.loss_WxP - mean_WxP)
        * np.sqrt(k_WxP / np.maximum(k_WxP - 1, 1))
        * (points.weight_WxP > 0)
    )


def seeds_to_resample(
    resample: str, groups: Sequence[Points], scales, labelled: bool
) -> np.ndarray | None:
    """Number of seeds at each of `scales` (fewest of any group) where seeds are to be resampled,
    else None.

    "auto" does where nine tenths of the runs near an optimum have LEAST_SEEDS labelled seeds at
    their learning rate.

    Raises
    ------
    TableError: for an unknown way, or seeds asked for that are not there.
    """
    if resample not in ("auto", SEEDS, PARAMETRIC):
        raise TableError(
            f"transfer_report(resample={resample!r}) is no way to draw replicates.",
            did_you_mean(resample, ("auto", SEEDS, PARAMETRIC)),
            "resample='auto'",
        )
    counts = [
        (scale, k[k > 0])
        for points in groups
        for scale, k in zip(points.scale_W, repeats(points), strict=True)
    ]
    every = np.concatenate([k for _, k in counts]) if counts else np.zeros(0)
    if resample == "auto" and not (
        labelled and len(every) and np.mean(every >= LEAST_SEEDS) >= 0.9
    ):
        return None
    if resample == PARAMETRIC:
        return None
    if not labelled or not (every > 1).any():
        raise TableError(
            "transfer_report(resample='seeds') has no seeds to resample.",
            "no learning rate has two runs" if labelled else "the table has no column 'seed'",
            "resample='auto', or a column 'seed' with a label for each repeat",
        )
    fewest_W = np.full(len(scales), np.inf)
    for scale, k in counts:
        if (k > 1).any():
            w = np.searchsorted(scales, scale)
            fewest_W[w] = min(fewest_W[w], np.median(k[k > 1]))
    return np.where(np.isfinite(fewest_W), fewest_W, 2)


def at_known_noise(size_B, square_BxF):
    """Sizes (B,) such as E, cleared of the scatter that comes from drawing the noise's size: their
    interval is a ratio, in which that cancels. The mean square is a sum of the squares drawn, with
    weights that are not below zero."""
    X = np.column_stack([np.ones(len(size_B)), square_BxF])
    total_B = X.sum(1)
    if not np.isfinite(size_B).all() or not np.any(size_B):
        return size_B
    weight_F, _ = nnls(X / total_B[:, None], size_B**2 / total_B)
    return size_B * np.sqrt(weight_F.sum() / np.maximum(X @ weight_F, 1e-300))


def interval(replicates, level: float) -> tuple[float, float]:
    """Central interval of replicates (B,). A nan says nothing: it counts half as −inf, half as
    +inf."""
    replicates = np.asarray(replicates, float)
    lost = np.isnan(replicates)
    if lost.any():
        replicates = np.where(lost, np.where(np.cumsum(lost) % 2, -np.inf, np.inf), replicates)
    tail = (1 - level) / 2
    low, high = (
        np.quantile(replicates, tail, method="lower"),
        np.quantile(replicates, 1 - tail, method="higher"),
    )
    return float(low), float(high)


def ratio_interval(estimate: float, replicates, level: float) -> tuple[float, float]:
    """Interval of the root mean square that a size, such as E, has over repeats of the sweep.

    The ratio of a replicate to the replicates' root mean square is a pivot; dividing the estimate
    by its quantiles gives the interval.
    """
    replicates = np.asarray(replicates, float)
    typical = np.sqrt(np.mean(replicates**2))
    if not typical > 1e-12 * max(estimate, 1e-300) or not np.isfinite(typical):
        return estimate, estimate
    low, high = interval(replicates / typical, level)
    return estimate / high, estimate / low if low > 0 else np.inf


SKEW_STEPS = 0.1 * np.arange(-8, 9)


@dataclass(frozen=True, eq=False)
class Replicates:
    """B replicates of a group's figures, centred on its estimates; float32 to keep many groups
    small.

    Attributes
    ----------
    log2_lr_BxW, loss_BxW, h_BxW: nan for widths without a well; ±inf where an optimum left the
        rates tried.
    theta_Bx7: law's parameters, as in :class:`hpt.metrics.law.LawFit`. at_bound_B: L∞ or α at a
        bound.
    E_B, E_extrap_B: the errors as drawn, at the noise estimated; octaves_B: signed, centred.
    shape_B: octaves that doubt about the basins' shape moves every η* of the group by; in
        log2_lr_BxW and theta_Bx7.
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


def replicate(
    fit: GroupFit, noise: Noise, shared: SharedDraws, rng: np.random.Generator
) -> Replicates | None:
    """Draw replicates of the sweep and fit each as the sweep was.

    They are centred on the law, plus that part of the wells' distance from it that noise does not
    explain (the positive-part shrinkage 1 − 1/F), so that a true law is not blamed for noise nor a
    false one taken for true.
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
    centre_WxP = curve(every, u_W, loss_W, np.exp(ln_h_W), fit.skew)
    drawn, square_BxF, method = draw_noise(noise, every, shared.take(used), rng)
    loss_BxWxP = centre_WxP + np.concatenate([np.zeros_like(drawn[:1]), drawn])
    skews = np.unique(
        np.clip(fit.skew + (SKEW_STEPS if fit.scatter.total_df >= 1 else 0.0), *SKEW_RANGE)
    )
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
    theta, bound, E, E_extrap, octaves = (
        np.full((B, 7), np.nan),
        np.zeros(B, bool),
        *np.full((3, B), np.nan),
    )
    if fit.law is not None:
        law = fit_laws(
            every, every_wells, fit.law.theta_Bx7[0] if dof > 0 else None, len(fit.edges)
        )
        theta = centred(fit.law.theta_Bx7[0], law.theta_Bx7, inflation)
        theta[:, LN_LR] += LN2 * shape_lr_B
        theta[:, LN_H] += shape_h_B
        bound = law.at_bound()[1:]
        E = at_known_noise(figures.E(law, part, loss_BxWxP)[1:], square_BxF)
        E_extrap, octaves = figures.E_extrap(
            part, loss_BxWxP, skews, cost, fit.law.theta_Bx7[0] if dof > 0 else None
        )
        E_extrap, octaves = at_known_noise(E_extrap[1:], square_BxF), centred(fit.octaves, octaves)
    single = [np.asarray(v, np.float32) for v in (*out, theta)]
    return Replicates(
        *single,
        bound,
        E,
        E_extrap,
        octaves,
        shape_lr_B,
        float(inflation),
        fit.shape.tilt(noise.sd) < -EVIDENT,
        method,
    )
