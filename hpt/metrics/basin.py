"""The basin of one width: η*, L* and curvature, from a skewed well fitted to the runs near the
optimum.

Near its optimum the loss is L* + h·f_s(ln η − ln η*), with f_s(u) = (e^(su) − 1 − su)/s²: ½u² to
second order, steeper on the high side where s > 0, a parabola at s = 0. Given the skew s the well
is linear in three numbers, so that any number of bootstrap replicates is one matrix product; s
itself is common to the widths of a group, where five or more curves determine what one cannot. On
synthetic sweeps (rates an octave apart, wells of another family and steeper on the high side, noise
0.01 nats) its median error of η* was 0.03 octaves; with a skew for each width 0.05, with parabolas
through three or five rates 0.09 or 0.24, with Akima and PCHIP interpolation 0.12 and 0.26.

Letters: B replicates, W widths, K learning rates of a width, N its runs, P those of them that lie
in its basin, S trial skews.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy import (
    arange,
    array,
    clip,
    concatenate,
    exp,
    inf,
    isfinite,
    log,
    maximum,
    nan,
    ndarray,
    sqrt,
    stack,
    where,
)
from numpy.linalg import qr
from scipy.optimize import minimize_scalar
from scipy.special import exprel

LN2 = log(2.0)
# Runs further from the best learning rate than this are outside the basin, or than FAR_REACH where
# runs on the other side diverge sooner; so are runs worse than the best by RISE: instability, not
# curvature.
REACH_OCTAVES = 2.0
FAR_REACH_OCTAVES = 3.0
RISE_NATS = 0.75
# So many runs of a width tell its basin; what more there are costs time and memory.
MOST_RUNS = 500
SKEW_RANGE = (-1.0, 2.5)
# Mean and deviation of s; it speaks only where the data hardly do.
SKEW_PRIOR = (0.4, 1.0)

EDGE = "optimum at the edge of the grid"
WRONG_SIGN = "curvature of the wrong sign"
FEW_RATES = "too few learning rates"
ALL_DIVERGED = "every run diverged"
CLIFF = "the loss falls until the runs diverge"


def edge_of(log2_lrs, losses) -> str:
    """On which edge of the learning rates tried the best loss sits.

    Parameters
    ----------
    log2_lrs, losses: (N,) each; repeats of a learning rate are averaged. A loss of inf or nan is a
        diverged run: tried, and worse than any finite loss.

    Returns
    -------
    "" where runs on both sides are worse, also where the worse ones diverged; "low" or "high" at an
    edge. A single learning rate, or nothing finite, is "low": lower ones are the ones to add.
    """
    _, loss_K = _cell_means(log2_lrs, losses)
    best = np.argmin(loss_K) if len(loss_K) else 0
    if best == 0:
        return "low"
    return "high" if best == len(loss_K) - 1 else ""


def _cell_means(log2_lr_N, loss_N):
    """Different learning rates in order, and the mean loss at each: inf where any run diverged."""
    log2_lr_K, cell_N = np.unique(log2_lr_N, return_inverse=True)
    loss_N = where(isfinite(loss_N), loss_N, inf)
    return log2_lr_K, np.bincount(cell_N, loss_N) / np.bincount(cell_N)


def basin_window(log2_lr_K, loss_K) -> slice:
    """The learning rates kept: an unbroken stretch of finite losses around the best.

    They lie within REACH_OCTAVES of its :func:`middle` and RISE_NATS of the best loss; the nearest
    neighbour on each side stays however far.
    """
    best = np.argmin(loss_K)
    octaves_K = np.abs(log2_lr_K - middle(log2_lr_K, loss_K))
    neighbour_K = np.abs(arange(len(loss_K)) - best) <= 1
    low_K = loss_K <= loss_K[best] + RISE_NATS

    def stretch(reach):
        near_K = octaves_K <= reach + 1e-6
        out_K = np.flatnonzero(~(isfinite(loss_K) & (neighbour_K | near_K & low_K)))
        start = out_K[out_K < best].max(initial=-1) + 1
        stop = out_K[out_K > best].min(initial=len(loss_K))
        return slice(int(start), int(stop))

    window = stretch(REACH_OCTAVES)
    stops_early = window.stop < len(loss_K) and octaves_K[window.stop - 1] < REACH_OCTAVES / 2
    if stops_early:
        return slice(stretch(FAR_REACH_OCTAVES).start, window.stop)
    return window


def middle(log2_lr_K, loss_K) -> float:
    """About where the optimum is: the best learning rate, or half the way to its better neighbour
    where that is more than an octave away."""
    best = np.argmin(loss_K)
    beside = [k for k in (best - 1, best + 1) if 0 <= k < len(loss_K)]
    near = min(beside, key=lambda k: loss_K[k], default=best)
    pair = log2_lr_K[[best, near]]
    if isfinite(loss_K[near]) and np.ptp(pair) > 1 + 1e-6:
        return float(pair.mean())
    return float(log2_lr_K[best])


@dataclass(frozen=True, eq=False)
class Points:
    """The runs of one group that lie in a basin, padded with zeros to a rectangle.

    Attributes
    ----------
    scale_W: widths, growing.
    origin_W: log2 η of the best run of each.
    u_WxP: ln η from that origin.
    loss_WxP: nats.
    weight_WxP: 1, or less where robust; 0 where padded.
    rate_WxP, seed_WxP: numbers of the learning rate, from 0 at each width, and of the seed.
    tried_Wx2: lowest and highest log2 η tried; the lowest that diverged above the basin, where
        `cliff_W`.
    bracket_Wx2: log2 η of the neighbours of the best learning rate, diverged ones too; ∓inf where
        there is none.
    narrow_W: whether only these and the best are left, as no smooth well fits more.
    thinned_W: how many runs near the optimum are left out, as there are more than MOST_RUNS.
    best_W: lowest mean loss of a learning rate, nats.
    edge_W, reason_W: "" or the edge, and why a width has no basin.
    """

    scale_W: ndarray
    origin_W: ndarray
    u_WxP: ndarray
    loss_WxP: ndarray
    weight_WxP: ndarray
    rate_WxP: ndarray
    seed_WxP: ndarray
    tried_Wx2: ndarray
    cliff_W: ndarray
    bracket_Wx2: ndarray
    narrow_W: ndarray
    thinned_W: ndarray
    best_W: ndarray
    edge_W: ndarray
    reason_W: ndarray

    def take(self, widths) -> Points:
        """The same for some of the widths."""
        return Points(**{name: value[widths] for name, value in vars(self).items()})

    @property
    def inside_WxP(self) -> ndarray:
        """Which are runs, and not padding."""
        return self.weight_WxP > 0

    @property
    def spare(self) -> int:
        """How many runs there are beyond the freedom of a well a width and one skew."""
        return self.inside_WxP.sum() - 3 * len(self.scale_W) - 1

    @property
    def rates_W(self) -> ndarray:
        """How many different learning rates each width has in its basin."""
        return self.rate_WxP.max(1) + 1

    @property
    def seeds_W(self) -> ndarray:
        """How many different seeds each width has in its basin."""
        pairs = zip(self.seed_WxP, self.inside_WxP, strict=True)
        return array([len(np.unique(seed_P[inside_P])) for seed_P, inside_P in pairs])

    @property
    def repeats_WxP(self) -> ndarray:
        """How many runs share each run's learning rate; 0 where padded."""
        return self._sums(self.rate_WxP, self.inside_WxP * 1.0).astype(int)

    @property
    def rise_W(self) -> ndarray:
        """How far the neighbours of the best learning rate are above it, nats: the higher of them."""
        mean_WxP = self.means(self.rate_WxP, self.loss_WxP)
        log2_lr_WxP = self.origin_W[:, None] + self.u_WxP / LN2
        near_WxP = np.zeros_like(self.inside_WxP)
        for end_W in self.bracket_Wx2.T:
            near_WxP |= np.abs(log2_lr_WxP - end_W[:, None]) < 1e-6
        above_WxP = mean_WxP - self.best_W[:, None]
        return where(near_WxP & self.inside_WxP, above_WxP, 0.0).max(1)

    def narrowed(self, w: int) -> None:
        """Keep of a width's runs only those at the best learning rate and its neighbours."""
        log2_lr_P = self.origin_W[w] + self.u_WxP[w] / LN2
        low, high = self.bracket_Wx2[w]
        kept_P = self.inside_WxP[w] & (log2_lr_P > low - 1e-6) & (log2_lr_P < high + 1e-6)
        for name in ("u_WxP", "loss_WxP", "weight_WxP", "rate_WxP", "seed_WxP"):
            row_P = getattr(self, name)[w]
            row_P[:] = np.pad(row_P[kept_P], (0, (~kept_P).sum()))
        first = self.rate_WxP[w, : kept_P.sum()].min()
        self.rate_WxP[w, : kept_P.sum()] -= first
        self.narrow_W[w] = True

    def walls(self, w: int, clear: float) -> tuple[float, float]:
        """log2 η of the nearest learning rates on either side of a width's best whose mean loss is
        more than `clear` nats above it; ∓inf where there is none."""
        above_P = self.means(self.rate_WxP, self.loss_WxP)[w] - self.best_W[w]
        u_P = self.u_WxP[w][self.inside_WxP[w] & (above_P > clear)]
        log2_lr_P = self.origin_W[w] + u_P / LN2
        beyond = self.tried_Wx2[w, 1] if self.cliff_W[w] else inf
        below_P = log2_lr_P[u_P < 0]
        above_P = log2_lr_P[u_P > 0]
        return below_P.max(initial=-inf), above_P.min(initial=beyond)

    def means(self, code_WxP, value_WxP) -> ndarray:
        """Mean (W, P) of the values of all runs that share each run's code, such as `rate_WxP`; 0
        where padded."""
        number_WxP = self._sums(code_WxP, self.inside_WxP * 1.0)
        return self._sums(code_WxP, value_WxP) / maximum(number_WxP, 1)

    def _sums(self, code_WxP, value_WxP):
        """Sum of the values of all runs of a width that share each run's code; 0 where padded."""
        W, _ = code_WxP.shape
        cell_WxP = code_WxP + arange(W)[:, None] * (code_WxP.max(initial=0) + 1)
        value_WxP = where(self.inside_WxP, value_WxP, 0.0)
        sums = np.bincount(cell_WxP.ravel(), value_WxP.ravel())
        return where(self.inside_WxP, sums[cell_WxP], 0.0)


def gather(rows: pd.DataFrame, scale: str) -> Points:
    """One group's rows of a :class:`hpt.metrics.table.SweepTable` as :class:`Points`."""
    basins = [_basin(width, cell) for width, cell in rows.groupby(scale, sort=True)]
    depth = max(3, *(len(basin["u_WxP"]) for basin in basins))
    columns = {}
    for name in basins[0]:
        values = [basin[name] for basin in basins]
        if name.endswith("_WxP"):
            values = [np.pad(value, (0, depth - len(value))) for value in values]
        columns[name] = array(values, dtype=object if isinstance(values[0], str) else None)
    return Points(**columns)


def _basin(width, cell):
    """One width's part of :class:`Points`, by attribute."""
    log2_lr_N = cell.log2_lr.to_numpy()
    loss_N = cell.loss.to_numpy()
    log2_lr_K, loss_K = _cell_means(log2_lr_N, loss_N)
    window = basin_window(log2_lr_K, loss_K)
    edge = edge_of(log2_lr_K, loss_K)
    kept_N = np.isin(log2_lr_N, log2_lr_K[window])
    near = kept_N.sum()
    if near > MOST_RUNS:
        kept_N = _thinned(kept_N, log2_lr_N, cell.seed.to_numpy(int))
    best = loss_K.min()
    reason = ""
    if not isfinite(best):
        best = nan
        reason = ALL_DIVERGED
        kept_N[:] = False
    elif edge:
        reason = EDGE
    elif window.stop - window.start < 3:
        reason = FEW_RATES
    best_k = np.argmin(loss_K)
    around_K = concatenate([[-inf], log2_lr_K, [inf]])
    cliff = window.stop < len(loss_K) and not isfinite(loss_K[window.stop])
    origin = log2_lr_K[best_k]
    u_P = (log2_lr_N[kept_N] - origin) * LN2
    return {
        "scale_W": width,
        "origin_W": origin,
        "u_WxP": u_P,
        "loss_WxP": loss_N[kept_N],
        "weight_WxP": np.ones_like(u_P),
        "rate_WxP": np.unique(np.round(u_P, 6), return_inverse=True)[1],
        "seed_WxP": cell.seed.to_numpy(int)[kept_N],
        "tried_Wx2": (log2_lr_K[0], log2_lr_K[window.stop if cliff else -1]),
        "cliff_W": cliff,
        "bracket_Wx2": around_K[[best_k, best_k + 2]],
        "narrow_W": False,
        "thinned_W": near - kept_N.sum(),
        "best_W": best,
        "edge_W": edge,
        "reason_W": reason,
    }


def _thinned(kept_N, log2_lr_N, seed_N):
    """MOST_RUNS of the runs kept: those of the first seeds, or of evenly chosen learning rates."""
    order = np.lexsort((log2_lr_N, seed_N))
    order = order[kept_N[order]]
    if seed_N[order].max() == 0:
        order = order[np.linspace(0, len(order) - 1, MOST_RUNS).astype(int)]
    thinned_N = np.zeros_like(kept_N)
    thinned_N[order[:MOST_RUNS]] = True
    return thinned_N


def phi2(t):
    """φ₂(t) = (e^t − 1 − t)/t², by its series near 0."""
    small = np.abs(t) < 1e-2
    safe = where(small, 1.0, t)
    series = np.polyval([1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2], t)
    return where(small, series, (np.expm1(safe) - safe) / safe**2)


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
    c0, c1, c2 = np.moveaxis(c, -1, 0)
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
    c = well_loss(-u, loss, h, skew), -h * u * exprel(-t), h * exp(-t)
    return stack(np.broadcast_arrays(*c), axis=-1)


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
        y_WxPxB = np.moveaxis(loss_BxWxP * self.root_WxP, 0, -1)
        # About their mean, so that no digits are lost in the sum of squares.
        shift_WxB = y_WxPxB.sum(1) / maximum(self.root_WxP.sum(1), 1e-9)[:, None]
        y_WxPxB = y_WxPxB - self.root_WxP[..., None] * shift_WxB[:, None]
        z_SxWx3xB = self.Qt_SxWx3xP @ y_WxPxB
        sse_SxWxB = maximum((y_WxPxB**2).sum(1) - (z_SxWx3xB**2).sum(2), 0.0)
        pick_B = (sse_SxWxB[:, pooled].sum(1) + self.skew_cost_Sx1).argmin(0)
        each_B = arange(len(pick_B))
        skew_B = self.skew_S[pick_B]
        R_BxWx3x3 = self.R_SxWx3x3[pick_B]
        sse_BxW = sse_SxWxB[pick_B, :, each_B]
        z_BxWx3 = z_SxWx3xB[pick_B, :, :, each_B] + R_BxWx3x3[..., 0] * shift_WxB.T[..., None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            wells = well_of(_back_substitute(R_BxWx3x3, z_BxWx3), skew_B[:, None])
        return Wells(skew_B, z_BxWx3, R_BxWx3x3, sse_BxW, *wells)


def wells_of(points: Points, skew: float) -> Wells:
    """The wells of the runs themselves, B = 1, at a skew."""
    return WellFit(points, skew)(points.loss_WxP[None])


def _back_substitute(R, z):
    """Solve R·c = z for upper triangular R (…, 3, 3); nan or inf where singular."""
    c2 = z[..., 2] / R[..., 2, 2]
    c1 = (z[..., 1] - R[..., 1, 2] * c2) / R[..., 1, 1]
    c0 = (z[..., 0] - R[..., 0, 1] * c1 - R[..., 0, 2] * c2) / R[..., 0, 0]
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

    def sse(skew):
        return wells_of(points, skew).sse_BxW.sum()

    grid_S = np.linspace(*SKEW_RANGE, 36)
    sse_S = array([sse(skew) for skew in grid_S])
    variance = sse_S.min() / points.spare
    best = np.argmin(sse_S + skew_cost(grid_S, variance))
    scale = max(sse_S[best], 1e-300)
    fit = minimize_scalar(
        lambda skew: (sse(skew) + skew_cost(skew, variance)) / scale,
        bounds=grid_S[clip([best - 1, best + 1], 0, len(grid_S) - 1)],
        method="bounded",
        options={"xatol": 1e-10},
    )
    return fit.x
