"""The basin of one width: which of its runs lie near the optimum, between which rates that is, or why
there is none.

Letters: W widths, K learning rates of a width, N its runs, P those of them that lie in its basin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy import arange, argmin, array, concatenate, inf, isfinite, log, maximum, nan, ndarray, unique, where

LN2 = log(2.0)
# Runs further from the best learning rate than this are outside the basin, or than FAR_REACH where
# runs on the other side diverge sooner; so are runs worse than the best by RISE: instability, not
# curvature.
REACH_OCTAVES = 2.0
FAR_REACH_OCTAVES = 3.0
RISE_NATS = 0.75
# So many runs of a width tell its basin; what more there are costs time and memory.
MOST_RUNS = 500

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
    best = argmin(loss_K) if len(loss_K) else 0
    if best == 0:
        return "low"
    return "high" if best == len(loss_K) - 1 else ""


def _cell_means(log2_lr_N, loss_N):
    """Different learning rates in order, and the mean loss at each: inf where any run diverged."""
    log2_lr_K, cell_N = unique(log2_lr_N, return_inverse=True)
    loss_N = where(isfinite(loss_N), loss_N, inf)
    return log2_lr_K, np.bincount(cell_N, loss_N) / np.bincount(cell_N)


def basin_window(log2_lr_K, loss_K) -> slice:
    """The learning rates kept: an unbroken stretch of finite losses around the best.

    They lie within REACH_OCTAVES of its :func:`middle` and RISE_NATS of the best loss; the nearest
    neighbour on each side stays however far.
    """
    best = argmin(loss_K)
    octaves_K = abs(log2_lr_K - middle(log2_lr_K, loss_K))
    neighbour_K = abs(arange(len(loss_K)) - best) <= 1
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
    best = argmin(loss_K)
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
    rise_W: how far the neighbours of that rate are above it, nats: the higher one that trained.
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
    rise_W: ndarray
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
        return array([len(unique(seed_P[inside_P])) for seed_P, inside_P in pairs])

    @property
    def repeats_WxP(self) -> ndarray:
        """How many runs share each run's learning rate; 0 where padded."""
        return self._sums(self.rate_WxP, self.inside_WxP * 1.0).astype(int)

    def _log2_lr(self, w):
        return self.origin_W[w] + self.u_WxP[w] / LN2

    def narrowed(self, w: int) -> None:
        """Keep of a width's runs only those at the best learning rate and its neighbours."""
        log2_lr_P = self._log2_lr(w)
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
        wall_P = self._log2_lr(w)[self.inside_WxP[w] & (above_P > clear)]
        beyond = self.tried_Wx2[w, 1] if self.cliff_W[w] else inf
        best = self.origin_W[w]
        low = wall_P[wall_P < best].max(initial=-inf)
        high = wall_P[wall_P > best].min(initial=beyond)
        return low, high

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
    best_k = argmin(loss_K)
    around_K = concatenate([[-inf], log2_lr_K, [inf]])
    near_K = loss_K[max(best_k - 1, 0) : best_k + 2]
    cliff = window.stop < len(loss_K) and not isfinite(loss_K[window.stop])
    origin = log2_lr_K[best_k]
    u_P = (log2_lr_N[kept_N] - origin) * LN2
    return {
        "scale_W": width,
        "origin_W": origin,
        "u_WxP": u_P,
        "loss_WxP": loss_N[kept_N],
        "weight_WxP": np.ones_like(u_P),
        "rate_WxP": unique(np.round(u_P, 6), return_inverse=True)[1],
        "seed_WxP": cell.seed.to_numpy(int)[kept_N],
        "tried_Wx2": (log2_lr_K[0], log2_lr_K[window.stop if cliff else -1]),
        "cliff_W": cliff,
        "bracket_Wx2": around_K[[best_k, best_k + 2]],
        "narrow_W": False,
        "thinned_W": near - kept_N.sum(),
        "best_W": best,
        "rise_W": near_K[isfinite(near_K)].max(initial=best) - best,
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
