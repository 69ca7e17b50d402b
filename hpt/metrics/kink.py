"""What the shape of a basin leaves open: were it kinked at its optimum, where would η* be?

A smooth well and two parabolas that meet at the optimum with different curvatures look alike at the
rates of a sweep; η* differs between them by a quarter of an octave per unit of skew. Both are
fitted. What lies between is as likely as the fits of its ends say, which with the noise of most
sweeps is: hardly less likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpt.metrics.basin import Points

CURVATURE = 0.06  # deviation of ln h over likely shapes, per unit of skew
KINK_OCTAVES = 0.28  # that a kink moves η*, per unit of skew
SMOOTH_OCTAVES = 0.04  # deviation of η* over smooth shapes
KINKS = np.linspace(0.0, 2.4, 13)  # ln of the ratio of the curvatures on the two sides
STEP, REACH = 0.05, 0.7  # of the trial optima, ln η from the smooth well's
EVIDENT = 3.0  # ln of how many times likelier a kink must be to speak of a lack of fit


@dataclass(frozen=True)
class ShapeDoubt:
    """By how much a kinked basin fits a group's runs worse than a smooth one, nats² (sum of
    squares)."""

    worse: float = 0.0

    def tilt(self, noise_sd: float) -> float:
        """ln of how much likelier no kink is than one, at this noise of one run (nats)."""
        return float(np.clip(self.worse / (2 * max(noise_sd, 1e-9) ** 2), -500, 500))

    def draw(self, skew_B, noise_sd: float, rng: np.random.Generator) -> np.ndarray:
        """Octaves (B,) by which η* may lie off the smooth well's: a share of the kink's,
        exponentially tilted, and what other smooth shapes may move it."""
        rate, u_B = self.tilt(noise_sd), rng.uniform(size=len(skew_B))
        share_B = u_B if abs(rate) < 1e-6 else -np.log1p(u_B * np.expm1(-rate)) / rate
        return skew_B * (KINK_OCTAVES * share_B + SMOOTH_OCTAVES * rng.standard_normal(len(skew_B)))


def shape_doubt(points: Points, u_W, sse: float) -> ShapeDoubt:
    """Compare the smooth wells, of optima `u_W` (ln η from the origin) and sum of squares `sse`,
    with kinked ones.

    The ratio of curvatures is common to the widths, like the skew. Nothing to compare where there
    are fewer than five rates a width, or no run to spare.
    """
    inside_WxP = points.weight_WxP > 0
    rates = [len(np.unique(u[used])) for u, used in zip(points.u_WxP, inside_WxP, strict=True)]
    if max(rates) < 5 or inside_WxP.sum() - 3 * len(u_W) - 1 < 1:
        return ShapeDoubt()
    trial_U = np.arange(-REACH, REACH + STEP / 2, STEP)
    u = points.u_WxP[:, None] - (u_W[:, None] + trial_U)[..., None]  # (W, U, P)
    w = points.weight_WxP[:, None]
    y = (
        points.loss_WxP
        - (points.loss_WxP * points.weight_WxP).sum(1, keepdims=True)
        / points.weight_WxP.sum(1, keepdims=True)
    )[:, None]
    sse_KxWxU = np.empty((len(KINKS), *u.shape[:2]))
    for k, kink in enumerate(KINKS):
        f = 0.5 * u**2 * np.exp(np.where(u > 0, kink / 2, -kink / 2))
        f = f - (w * f).sum(-1, keepdims=True) / w.sum(-1, keepdims=True)
        slope = np.maximum((w * f * y).sum(-1) / np.maximum((w * f * f).sum(-1), 1e-300), 0.0)
        sse_KxWxU[k] = (w * (y - slope[..., None] * f) ** 2).sum(-1)
    best_KxW = sse_KxWxU.argmin(-1)
    inner_KxW = np.clip(best_KxW, 1, len(trial_U) - 2)
    left, mid, right = (
        np.take_along_axis(sse_KxWxU, (inner_KxW + i)[..., None], -1)[..., 0] for i in (-1, 0, 1)
    )
    bend = np.maximum(left - 2 * mid + right, 1e-300)
    move = np.clip(0.5 * (left - right) / bend, -1, 1)
    least_K = (mid - 0.25 * (left - right) * move).sum(-1)
    return ShapeDoubt(float(least_K.min() - sse))
