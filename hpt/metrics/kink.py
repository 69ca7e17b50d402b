"""What the shape of a basin leaves open: were it kinked at its optimum, where would η* be?

A smooth well and two parabolas that meet at the optimum with different curvatures look alike at the
rates of a sweep; η* differs between them by a quarter of an octave per unit of skew. Both are
fitted. What lies between is as likely as the fits of its ends say, which with the noise of most
sweeps is: hardly less likely.

Letters: B replicates, W widths, P runs of a width, U trial optima.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy import clip, exp, expm1, linspace, log1p, maximum, ndarray, sign, take_along_axis

from hpt.metrics.basin import Points

# Deviation of ln h over likely shapes, per unit of skew.
CURVATURE = 0.06
# By how much a kink moves η*, and the deviation of η* over smooth shapes, per unit of skew.
KINK_OCTAVES = 0.28
SMOOTH_OCTAVES = 0.04
# Trial kinks, ln of the ratio of the curvatures on the two sides, and trial optima, ln η from the
# smooth well's.
KINKS = linspace(0.0, 2.4, 13)
TRIALS = linspace(-0.7, 0.7, 15)
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
        B = len(skew_B)
        share_B = rng.uniform(size=B)
        if abs(tilt) >= 1e-6:
            share_B = -log1p(share_B * expm1(-tilt)) / tilt
        kinked_B = KINK_OCTAVES * share_B
        smooth_B = SMOOTH_OCTAVES * rng.standard_normal(B)
        return skew_B * (kinked_B + smooth_B)


def shape_doubt(points: Points, u_W, sse: float) -> ShapeDoubt:
    """Compare the smooth wells, of optima `u_W` (ln η from the origin) and sum of squares `sse`,
    with kinked ones.

    The ratio of curvatures is common to the widths, like the skew. Nothing to compare where there
    are fewer than five rates a width, or no run to spare.
    """
    if points.rates_W.max() < 5 or points.spare < 1:
        return ShapeDoubt()
    kinked = min(_least_squares(points, u_W, kink) for kink in KINKS)
    return ShapeDoubt(kinked - sse)


def _least_squares(points, u_W, kink):
    """Sum of squares of the best wells with a kink, nats²."""
    best_Wx1 = u_W[:, None]
    for zoom in (1, 0.1, 0.01):
        trial_WxU = best_Wx1 + zoom * TRIALS
        sse_WxU = _kinked_sse(points, trial_WxU, kink)
        lowest_Wx1 = sse_WxU.argmin(1)[:, None]
        best_Wx1 = take_along_axis(trial_WxU, lowest_Wx1, 1)
    return sse_WxU.min(1).sum()


def _kinked_sse(points, trial_WxU, kink):
    """Least sum of squares (W, U) of kinked wells with each trial optimum, nats²."""
    u_WxUxP = points.u_WxP[:, None] - trial_WxU[..., None]
    weight = points.weight_WxP[:, None]
    share = weight / weight.sum(-1, keepdims=True)
    steeper = exp(sign(u_WxUxP) * kink / 2)
    rise = 0.5 * steeper * u_WxUxP**2
    rise = rise - (share * rise).sum(-1, keepdims=True)
    loss = points.loss_WxP[:, None]
    loss = loss - (share * loss).sum(-1, keepdims=True)
    square = (weight * rise**2).sum(-1)
    along = (weight * rise * loss).sum(-1)
    h = maximum(along / maximum(square, 1e-300), 0.0)
    left_over = loss - h[..., None] * rise
    return (weight * left_over**2).sum(-1)
