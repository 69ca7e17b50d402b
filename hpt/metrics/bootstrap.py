"""Fresh noise for replicates of a sweep: the bootstrap, parametric or over seeds.

Where seeds are few the bootstrap is parametric: the noise is the scatter of all runs in a group's
basins about their wells (repeats and lack of fit together), its uncertainty is drawn along (σ² as
df·σ̂²/χ²_df, which widens intervals as Student's t does), and every replicate is the fitted curve
plus fresh noise. What runs of one seed and width share (:mod:`hpt.metrics.noise`) is drawn once for
all groups where seeds are labelled: it cancels in differences.

Where seeds are many enough, each width's seeds are resampled as a whole, alike in all groups: the
deviations of a seed's runs from the means of their cells, times one random weight. The weights are
normal (a smoothed bootstrap), times √(k/(k − 1)) for the means' own freedom and √(ν/χ²_ν), ν = k −
1, for the variance's, so that at one width k seeds give the interval of Student's t, whatever the
noise of a seed's runs has in common.

Letters: B replicates, W widths, P runs of a width, S seeds, F squares of what has been drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import concatenate, exp, inf, isfinite, maximum, mean, ndarray, sqrt, stack, take_along_axis, where
from scipy.optimize import nnls

from hpt.errors import TableError, did_you_mean
from hpt.metrics.basin import Points
from hpt.metrics.noise import GROWTH_K, CommonNoise, Noise

AUTO, PARAMETRIC, SEEDS = "auto", "parametric", "seeds"
# From which "auto" resamples seeds, and for which share of the runs: docs/coverage.md.
LEAST_SEEDS = 5
LEAST_SHARE = 0.9
# Factor by which few seeds may widen a replicate's noise: beyond it there is no well.
WIDEST = 10.0


@dataclass(frozen=True, eq=False)
class SharedDraws:
    """What B replicates have in common over groups, at W scales and S seeds.

    Attributes
    ----------
    common_BxWxS: noise that runs of one seed share, nats.
    sd_B: the deviation drawn for it.
    weight_BxWxS: of each seed's deviations where seeds are resampled, else None.
    widen_BxW: what these have been widened by, else None.
    """

    common_BxWxS: ndarray
    sd_B: ndarray
    weight_BxWxS: ndarray | None = None
    widen_BxW: ndarray | None = None

    @classmethod
    def draw(cls, common: CommonNoise, shape, rng, seeds_W=None) -> SharedDraws:
        """Draw for `shape` (B, W, S). `seeds_W`: number of seeds at each scale, to resample them."""
        sd_B = rng.choice(common.sd_K, size=shape[0], p=common.p_K)
        common_BxWxS = sd_B[:, None, None] * rng.standard_normal(shape)
        if seeds_W is None:
            return cls(common_BxWxS, sd_B)
        df_W = maximum(np.asarray(seeds_W) - 1.0, 1.0)
        widen_BxW = np.minimum(sqrt(df_W / rng.chisquare(df_W, shape[:2])), WIDEST)
        weight_BxWxS = widen_BxW[..., None] * rng.standard_normal(shape)
        return cls(common_BxWxS, sd_B, weight_BxWxS, widen_BxW)

    def take(self, scales) -> SharedDraws:
        """The same at some of the scales."""
        arrays = vars(self).items()
        return replace(self, **{k: v[:, scales] for k, v in arrays if np.ndim(v) > 1})


@dataclass(frozen=True, eq=False)
class Draws:
    """Fresh noise for B replicates of a group's runs.

    Attributes
    ----------
    noise_BxWxP: nats.
    square_BxF: what each replicate has drawn above the noise known, as squares that are 1 or
        thereabouts on average.
    method: "parametric", "seeds", or both with a plus where some learning rates have a single run.
    """

    noise_BxWxP: ndarray
    square_BxF: ndarray
    method: str


def draw_noise(noise: Noise, points: Points, shared: SharedDraws, rng) -> Draws:
    """Draw the noise of a group's runs: parametric, and of seeds where these are resampled."""
    B = len(shared.sd_B)
    seed_1xWxP = points.seed_WxP[None]
    widen_B = sqrt(noise.df / rng.chisquare(noise.df, B))
    normal_BxWxP = rng.standard_normal((B, *points.loss_WxP.shape))
    drawn_BxWxP = noise.sd * widen_B[:, None, None] * normal_BxWxP
    if noise.growth_p_K is not None:
        drawn_BxWxP *= _relative(noise.growth_p_K, points.scale_W, B, rng)[..., None]
    squares = [widen_B**2]
    if shared.sd_B.any():
        drawn_BxWxP += take_along_axis(shared.common_BxWxS, seed_1xWxP, axis=2)
        squares.append(shared.sd_B**2 / mean(shared.sd_B**2))
    method = PARAMETRIC
    repeats_WxP = points.repeats_WxP
    if shared.weight_BxWxS is not None and (repeats_WxP > 1).any():
        weight_BxWxP = take_along_axis(shared.weight_BxWxS, seed_1xWxP, axis=2)
        resampled_BxWxP = noise.raised * _deviations(points) * weight_BxWxP
        drawn_BxWxP = where(repeats_WxP > 1, resampled_BxWxP, drawn_BxWxP)
        method = SEEDS
        if (repeats_WxP == 1).any():
            method = f"{SEEDS} + {PARAMETRIC}"
        else:
            squares = []
        squares += list(shared.widen_BxW.T**2)
    return Draws(drawn_BxWxP, stack(squares, axis=1), method)


def _relative(growth_p_K, scale_W, B, rng):
    """The noise's deviation (B, W) over its root mean square, where it grows as drawn."""
    growth_B = rng.choice(GROWTH_K, B, p=growth_p_K)
    sd_BxW = exp(np.outer(growth_B, np.log2(scale_W / scale_W[0])))
    return sd_BxW / sqrt((sd_BxW**2).mean(1, keepdims=True))


def _deviations(points):
    """Each run's distance from the mean of its learning rate times √(k/(k − 1)), nats (W, P)."""
    k_WxP = points.repeats_WxP
    distance_WxP = points.loss_WxP - points.means(points.rate_WxP, points.loss_WxP)
    return distance_WxP * sqrt(k_WxP / maximum(k_WxP - 1, 1))


def seeds_to_resample(resample: str, groups: Sequence[Points], scales, labelled: bool) -> ndarray | None:
    """Number of seeds at each of `scales` (fewest of any group) where seeds are to be resampled,
    else None.

    "auto" does where nine tenths of the runs near an optimum have LEAST_SEEDS labelled seeds at
    their learning rate.

    Raises
    ------
    TableError: for an unknown way, or seeds asked for that are not there.
    """
    ways = (AUTO, SEEDS, PARAMETRIC)
    if resample not in ways:
        raise TableError(
            f"transfer_report(resample={resample!r}) is no way to draw replicates.",
            did_you_mean(resample, ways),
            "resample='auto'",
        )
    if resample == PARAMETRIC:
        return None
    repeats = [points.repeats_WxP[points.inside_WxP] for points in groups]
    repeats_N = concatenate(repeats or [np.zeros(1)])
    if resample == AUTO and not (labelled and mean(repeats_N >= LEAST_SEEDS) >= LEAST_SHARE):
        return None
    if not labelled or not (repeats_N > 1).any():
        raise TableError(
            "transfer_report(resample='seeds') has no seeds to resample.",
            "no learning rate has two runs" if labelled else "the table has no column 'seed'",
            "resample='auto', or a column 'seed' with a label for each repeat",
        )
    fewest_W = np.full(len(scales), inf)
    for points in groups:
        several_WxP = np.ma.masked_less(points.repeats_WxP, 2)
        seeds_W = np.ma.median(several_WxP, axis=1).filled(inf)
        np.minimum.at(fewest_W, np.searchsorted(scales, points.scale_W), seeds_W)
    return where(isfinite(fewest_W), fewest_W, 2)


def at_known_noise(size_B, square_BxF):
    """Sizes (B,) such as E, cleared of the scatter that comes from drawing the noise's size: their
    interval is a ratio, in which that cancels. The mean square is a sum of the squares drawn, with
    weights that are not below zero."""
    if not isfinite(size_B).all() or not size_B.any():
        return size_B
    X = np.column_stack([np.ones(len(size_B)), square_BxF])
    total_B = X.sum(1)
    weight_F, _ = nnls(X / total_B[:, None], size_B**2 / total_B)
    return size_B * sqrt(weight_F.sum() / maximum(X @ weight_F, 1e-300))
