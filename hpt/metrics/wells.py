"""The well of a basin: a skewed curve through its runs, whose lowest point is η*.

Near its optimum the loss is L* + h·f_s(ln η − ln η*), with f_s(u) = (e^(su) − 1 − su)/s²: ½u² to
second order, steeper on the high side where s > 0, a parabola at s = 0. Given the skew s the well
is linear in three numbers, so that any number of bootstrap replicates is one matrix product; s
itself is common to the widths of a group, where five or more curves determine what one cannot. On
synthetic sweeps (rates an octave apart, wells of another family and steeper on the high side, noise
0.01 nats) its median error of η* was 0.03 octaves; with a skew for each width 0.05, with parabolas
through three or five rates 0.09 or 0.24, with Akima and PCHIP interpolation 0.12 and 0.26.

Letters: B replicates, W widths, P runs of a width in its basin, S trial skews.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import arange, argmin, clip, exp, isfinite, maximum, moveaxis, nan, ndarray, sqrt, stack, where
from numpy.linalg import qr
from scipy.special import exprel

from hpt.metrics.basin import Points

SKEW_RANGE = (-1.0, 2.5)
# Mean and deviation of s; it speaks only where the data hardly do.
SKEW_PRIOR = (0.4, 1.0)
# The best skew is sought on so many trials, then so often between those beside the best.
TRIALS = 36
ZOOMS = 6


def phi2(t):
    """φ₂(t) = (e^t − 1 − t)/t², by its series near 0."""
    small = abs(t) < 1e-2
    safe = where(small, 1.0, t)
    series = np.polyval([1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2], t)
    whole = (np.expm1(safe) - safe) / safe**2
    return where(small, series, whole)


def well_loss(u, loss, h, skew):
    """The well's curve: L* + h·f_s(u), nats, at u = ln η − ln η*; arguments broadcast.

    f_s(u) = (e^(su) − 1 − su)/s² = u²·φ₂(su), ½u² to second order and at s = 0; |su| is cut off at
    50.
    """
    return loss + h * u**2 * phi2(clip(skew * u, -50, 50))


def losses_at(points: Points, u_W, loss_W, h_W, skew):
    """The loss at every run, nats (…, W, P), of wells with optima `u_W` (ln η from the origin).

    `u_W`, `loss_W` and `h_W` may have more axes in front; `skew` is to broadcast with the result.
    """
    u_WxP = points.u_WxP - u_W[..., None]
    return well_loss(u_WxP, loss_W[..., None], h_W[..., None], skew)


def well_basis(u, skew):
    """What a well is linear in, (…, 3): 1, u and f_s(u)."""
    return stack(np.broadcast_arrays(np.ones_like(u), u, well_loss(u, 0.0, 1.0, skew)), -1)


def well_of(c, skew):
    """The optimum u, L* and h of c0 + c1·u + c2·f_s(u); u and h are nan where there is no minimum."""
    c0, c1, c2 = moveaxis(c, -1, 0)
    ratio = -c1 / c2
    v = skew * ratio
    valid = (c2 > 0) & (v > -1) & isfinite(v)
    v = where(valid, v, nan)
    # ln(1 + v)/skew, of which the limit at a skew of 0 is the ratio itself.
    u = ratio / exprel(np.log1p(v))
    h = c2 * (1 + v)
    return u, well_loss(-u, c0, -h, skew), h


def coefficients(u, loss, h, skew):
    """The inverse of :func:`well_of`, shape (…, 3)."""
    t = skew * u
    c0 = well_loss(-u, loss, h, skew)
    c1 = -h * u * exprel(-t)
    c2 = h * exp(-t)
    return stack(np.broadcast_arrays(c0, c1, c2), axis=-1)


@dataclass(frozen=True, eq=False)
class Wells:
    """Skewed wells in B replicates of W widths.

    Attributes
    ----------
    skew_B: s.
    z_BxWx3, R_BxWx3x3: the runs' information: the sum of squares of a well with linear coefficients
        c is |z − R·c|² more than `sse_BxW` (weighted, nats²).
    u_BxW: ln η* from the origin.
    loss_BxW: L* in nats.
    h_BxW: curvature in ln η; nan where of the wrong sign.
    """

    skew_B: ndarray
    z_BxWx3: ndarray
    R_BxWx3x3: ndarray
    sse_BxW: ndarray
    u_BxW: ndarray
    loss_BxW: ndarray
    h_BxW: ndarray

    def take(self, widths) -> Wells:
        """The same for some of the widths."""
        _, *rest = vars(self).values()
        return Wells(self.skew_B, *(value[:, widths] for value in rest))

    def replicates(self, some) -> Wells:
        """The same for some of the replicates."""
        return Wells(*(value[some] for value in vars(self).values()))


def raised(wells: Wells, added_BxW) -> Wells:
    """Wells of runs that are all `added_BxW` nats higher."""
    z_BxWx3 = wells.z_BxWx3 + wells.R_BxWx3x3[..., 0] * added_BxW[..., None]
    return replace(wells, z_BxWx3=z_BxWx3, loss_BxW=wells.loss_BxW + added_BxW)


class WellFit:
    """Least squares of skewed wells on fixed learning rates, for many replicates at once.

    Parameters
    ----------
    skew_S, skew_cost_S: trial skews, and what each costs beyond its sum of squares, nats².
    """

    def __init__(self, points: Points, skew_S, skew_cost_S=0.0):
        self.skew_S = np.atleast_1d(np.asarray(skew_S, float))
        self.skew_cost_Sx1 = np.reshape(skew_cost_S, (-1, 1))
        self.root_WxP = sqrt(points.weight_WxP)
        basis_SxWxPx3 = well_basis(points.u_WxP, self.skew_S[:, None, None])
        Q_SxWxPx3, self.R_SxWx3x3 = qr(basis_SxWxPx3 * self.root_WxP[..., None])
        self.Qt_SxWx3xP = np.swapaxes(Q_SxWxPx3, -1, -2)

    def __call__(self, loss_BxWxP, pooled=slice(None)) -> Wells:
        """Fit. The skew is chosen once for each replicate, over the widths that `pooled` marks."""
        shift_WxB, z_SxWx3xB, sse_SxWxB = self._projected(loss_BxWxP)
        cost_SxB = sse_SxWxB[:, pooled].sum(1) + self.skew_cost_Sx1
        pick_B = cost_SxB.argmin(0)
        each_B = arange(len(pick_B))
        skew_B = self.skew_S[pick_B]
        R_BxWx3x3 = self.R_SxWx3x3[pick_B]
        z_BxWx3 = z_SxWx3xB[pick_B, :, :, each_B]
        z_BxWx3 += R_BxWx3x3[..., 0] * shift_WxB.T[..., None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            wells = well_of(_back_substitute(R_BxWx3x3, z_BxWx3), skew_B[:, None])
        return Wells(skew_B, z_BxWx3, R_BxWx3x3, sse_SxWxB[pick_B, :, each_B], *wells)

    def sse(self, loss_BxWxP) -> ndarray:
        """Sum of squares (S, W, B) at each trial skew, nats²."""
        return self._projected(loss_BxWxP)[-1]

    def _projected(self, loss_BxWxP):
        """The losses' mean at each width, what the wells explain of the rest, and what they do not."""
        y_WxPxB = moveaxis(loss_BxWxP * self.root_WxP, 0, -1)
        # About their mean, so that no digits are lost in the sum of squares.
        shift_WxB = y_WxPxB.sum(1) / maximum(self.root_WxP.sum(1), 1e-9)[:, None]
        y_WxPxB = y_WxPxB - self.root_WxP[..., None] * shift_WxB[:, None]
        z_SxWx3xB = self.Qt_SxWx3xP @ y_WxPxB
        explained_SxWxB = (z_SxWx3xB**2).sum(2)
        left_SxWxB = (y_WxPxB**2).sum(1) - explained_SxWxB
        return shift_WxB, z_SxWx3xB, maximum(left_SxWxB, 0.0)


def wells_of(points: Points, skew: float) -> Wells:
    """The wells of the runs themselves, B = 1, at a skew."""
    return WellFit(points, skew)(points.loss_WxP[None])


def _back_substitute(R, z):
    """Solve R·c = z for upper triangular R (…, 3, 3); nan or inf where singular."""
    z0, z1, z2 = moveaxis(z, -1, 0)
    (r00, r01, r02), (_, r11, r12), (_, _, r22) = moveaxis(R, (-2, -1), (0, 1))
    c2 = z2 / r22
    c1 = (z1 - r12 * c2) / r11
    c0 = (z0 - r01 * c1 - r02 * c2) / r00
    return stack([c0, c1, c2], axis=-1)


def skew_cost(skew, variance: float):
    """What the prior of the skew weighs beside a sum of squares, nats², at this variance of a run."""
    mean, deviation = SKEW_PRIOR
    return variance * ((skew - mean) / deviation) ** 2


def common_skew(points: Points) -> float:
    """The skew that fits all widths best; with the prior where they hardly tell, and its mean where
    they do not at all."""
    if points.spare < 1 or points.rates_W.max(initial=0) < 4:
        return SKEW_PRIOR[0]

    def sse(skew_S):
        return WellFit(points, skew_S).sse(points.loss_WxP[None]).sum((1, 2))

    skew_S = np.linspace(*SKEW_RANGE, TRIALS)
    variance = sse(skew_S).min() / points.spare
    for _ in range(ZOOMS):
        best = argmin(sse(skew_S) + skew_cost(skew_S, variance))
        low, high = skew_S[clip([best - 1, best + 1], 0, TRIALS - 1)]
        skew_S = np.linspace(low, high, TRIALS)
    return (low + high) / 2
