"""What the shape of a basin leaves open: were it kinked at its optimum, where would η* be?

A smooth well and two parabolas that meet at the optimum with different curvatures look alike at the
rates of a sweep; η* differs between them by a quarter of an octave per unit of skew. Both are
fitted. What lies between is as likely as the fits of its ends say, which with the noise of most
sweeps is: hardly less likely.

Letters: B replicates, W widths, P runs of a width, U trial optima, K kinks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import clip, exp, maximum, ndarray, stack, where

from hpt.metrics.basin import Points

# Deviation of ln h over likely shapes, per unit of skew.
CURVATURE = 0.06
# By how much a kink moves η*, and the deviation of η* over smooth shapes, per unit of skew.
KINK_OCTAVES = 0.28
SMOOTH_OCTAVES = 0.04
# Trial kinks, ln of the ratio of the curvatures on the two sides, and trial optima, ln η from the
# smooth well's.
KINKS = np.linspace(0.0, 2.4, 13)
TRIALS = np.linspace(-0.7, 0.7, 15)
# ln of how many times likelier a kink must be to speak of a lack of fit.
EVIDENT = 3.0


@dataclass(frozen=True)
class ShapeDoubt:
    """By how much a kinked basin fits a group's runs worse than a smooth one, nats² (sum of
    squares)."""

    worse: float = 0.0

    def tilt(self, noise_sd: float) -> float:
        """ln of how much likelier no kink is than one, at this noise of one run (nats)."""
        return clip(self.worse / (2 * max(noise_sd, 1e-9) ** 2), -500, 500)

    def draw(self, skew_B, noise_sd: float, rng) -> ndarray:
        """Octaves (B,) by which η* may lie off the smooth well's: a share of the kink's,
        exponentially tilted, and what other smooth shapes may move it."""
        tilt = self.tilt(noise_sd)
        share_B = rng.uniform(size=len(skew_B))
        if abs(tilt) >= 1e-6:
            share_B = -np.log1p(share_B * np.expm1(-tilt)) / tilt
        smooth_B = SMOOTH_OCTAVES * rng.standard_normal(len(skew_B))
        return skew_B * (KINK_OCTAVES * share_B + smooth_B)


def shape_doubt(points: Points, u_W, sse: float) -> ShapeDoubt:
    """Compare the smooth wells, of optima `u_W` (ln η from the origin) and sum of squares `sse`,
    with kinked ones.

    The ratio of curvatures is common to the widths, like the skew. Nothing to compare where there
    are fewer than five rates a width, or no run to spare.
    """
    if points.rates_W.max() < 5 or points.spare < 1:
        return ShapeDoubt()
    best_KxW = np.broadcast_to(u_W, (len(KINKS), len(u_W)))
    for zoom in (1, 0.1, 0.01):
        trial_KxWxU = best_KxW[..., None] + zoom * TRIALS
        sse_KxWxU = _kinked_sse(points, trial_KxWxU)
        lowest_KxWx1 = sse_KxWxU.argmin(-1)[..., None]
        best_KxW = np.take_along_axis(trial_KxWxU, lowest_KxWx1, -1)[..., 0]
    return ShapeDoubt(sse_KxWxU.min(-1).sum(-1).min() - sse)


def _kinked_sse(points, trial_KxWxU):
    """Least sum of squares (K, W, U) of kinked wells with each kink and trial optimum, nats²."""
    return stack([_sse(points, *trial) for trial in zip(trial_KxWxU, KINKS, strict=True)])


def _sse(points, trial_WxU, kink):
    u_WxUxP = points.u_WxP[:, None] - trial_WxU[..., None]
    weight = points.weight_WxP[:, None]
    loss = _without_mean(points.loss_WxP[:, None], weight)
    rise = 0.5 * u_WxUxP**2 * exp(where(u_WxUxP > 0, kink / 2, -kink / 2))
    rise = _without_mean(rise, weight)
    square = maximum((weight * rise**2).sum(-1), 1e-300)
    h = maximum((weight * rise * loss).sum(-1) / square, 0.0)
    return (weight * (loss - h[..., None] * rise) ** 2).sum(-1)


def _without_mean(value, weight):
    return value - (weight * value).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
