"""Diverged runs that were written with a finite loss: ln V, a last value before the crash, 1e30.

Near its optimum a loss is smooth in ln η, and a learning rate too high by an octave costs tenths of
a nat. A run that is more than CLIFF_NATS worse than the best of its width, at a learning rate not
below that of the best, and more than STEEP times as far above it as the basin's low side would have
it there, stands beyond a cliff. So does one on a plateau: the losses above rise less from rate to
rate than they rose to it, which no basin does.

Letters: N runs of a width, K learning rates.
"""

from __future__ import annotations

import numpy as np
from numpy import argmin, asarray, diff, full, inf, isfinite, maximum, minimum, ndarray, unique, where, zeros

CLIFF_NATS = 1.0
STEEP = 8.0
PLATEAU_NATS = 0.75
# The low side speaks for the basin's curvature up to so many octaves below the best rate.
NEAR_OCTAVES = 3.0


def diverged_runs(log2_lr_N, loss_N) -> ndarray:
    """Which runs of one width have a finite loss that is no loss of a trained model (N,)."""
    finite_N = isfinite(loss_N)
    if not finite_N.any():
        return zeros(len(loss_N), bool)
    log2_lr_K, cell_N = unique(log2_lr_N, return_inverse=True)
    least_K = full(len(log2_lr_K), inf)
    np.minimum.at(least_K, cell_N[finite_N], asarray(loss_N)[finite_N])
    best = argmin(least_K)
    octaves_K = log2_lr_K - log2_lr_K[best]
    rise_K = least_K - least_K[best]
    limit_K = maximum(CLIFF_NATS, STEEP * _curvature(octaves_K, rise_K) * octaves_K**2)
    limit_K[:best] = inf
    first = _plateau(rise_K, best)
    limit_K[first:] = minimum(limit_K[first:], PLATEAU_NATS)
    return finite_N & (loss_N - least_K[best] > limit_K[cell_N])


def beyond_cliffs(runs, cells, notes) -> ndarray:
    """Which runs of a table (log2_lr, loss) have a finite loss though they diverged, those of each value of
    the columns `cells` by themselves; how many is noted."""
    found = zeros(len(runs), bool)
    for rows in runs.groupby(cells, sort=False).indices.values():
        part = runs.iloc[rows]
        found[rows] = diverged_runs(part.log2_lr.to_numpy(), part.loss.to_numpy())
    if found.any():
        least = runs.loss[found].min()
        notes.append(f"{found.sum()} run(s) with losses from {least:.4g} beyond a cliff taken for diverged")
    return found


def _curvature(octaves_K, rise_K):
    """Nats an octave² on the low side near the best rate; 0 where no rate tells."""
    low_K = (octaves_K < 0) & (octaves_K >= -NEAR_OCTAVES) & isfinite(rise_K)
    return (rise_K[low_K] / octaves_K[low_K] ** 2).max(initial=0.0)


def _plateau(rise_K, best):
    """Index of the first rate above the best that lies on a plateau; K where there is none."""
    step_K = diff(where(isfinite(rise_K), rise_K, 1e300))
    for k in range(best + 1, len(rise_K) - 1):
        jump, after = step_K[k - 1 : k + 1]
        if rise_K[k] > PLATEAU_NATS and PLATEAU_NATS / 2 < jump < inf and after < jump / 2:
            return k
    return len(rise_K)
