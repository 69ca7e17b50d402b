"""What it costs to use at the largest width a learning rate that was tuned at a smaller one."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Two rates of one grid differ by no more than this, in octaves.
SAME = 1e-6


def transfer_regret(table: pd.DataFrame) -> pd.DataFrame:
    """Regret at the largest width of the rate that is best at each smaller one, kept as it is and scaled
    by 1/n.

    Parameters
    ----------
    table: a sweep with columns parameterization, width, log2_lr (of the hidden matrices) and loss, in
        nats, and one weight decay. Means over seeds are taken, and a best rate is the best of the grid.

    Returns
    -------
    One row a parameterization and width but the largest: log2_lr, the best there; ``unchanged`` and
    ``scaled``, the loss at the largest width of η and of η·n/n_largest, above the best there. nan where
    no run has that rate.
    """
    rows = []
    largest = table["width"].max()
    for name, runs in table.groupby("parameterization", sort=False):
        means = runs.groupby(["width", "log2_lr"])["loss"].mean()
        at_largest = means[largest]
        for width in sorted(set(runs["width"]) - {largest}):
            best = means[width].idxmin()
            octaves = np.log2(largest / width)
            kept = _regret(at_largest, best)
            scaled = _regret(at_largest, best - octaves)
            rows.append((name, width, best, kept, scaled))
    return pd.DataFrame(rows, columns=["parameterization", "width", "log2_lr", "unchanged", "scaled"])


def _regret(losses, log2_lr):
    """Loss at a rate above the best of all rates; nan where the rate was not tried."""
    there = abs(losses.index - log2_lr) < SAME
    return losses[there].sum(min_count=1) - losses.min()
