"""Agreement of whole curves: do losses over learning rates look alike at two sizes, without any fit?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd
from numpy import inf, log2, mean, nan, sqrt

from hpt.metrics.sensitivity import check_band
from hpt.metrics.table import Columns, read_table

#: Fewer rates than these in common are no curve.
FEWEST_RATES = 3
TOO_FEW = f"fewer than {FEWEST_RATES} learning rates in common"


def curve_agreement(
    table: Any,
    *,
    beta: float = 0.0,
    octaves: float = 2.0,
    loss_at_start: float = inf,
    scale: str = "width",
    by: Columns = None,
) -> pd.DataFrame:
    """How far apart the curves of excess loss of neighbouring sizes are, if rates are used as η·n^(−β).

    The learning rate η of the smaller size is compared with η·(n_large/n_small)^(−β) of the larger; of
    both the loss of the best rate tried is taken off. Means over seeds are taken first. Zero is perfect
    transfer: not of the optimum alone, but of what every mistake costs.

    Parameters
    ----------
    table, scale, by: as in :func:`hpt.transfer_report`.
    beta: 0 for unchanged rates, 1 for rates that fall as 1/n.
    octaves: rates within so many octaves of either best one are compared.
    loss_at_start: a run counts no worse than an untrained model, ln(vocabulary) nats; without it a
        run that diverged at one size alone makes the distance infinite.

    Returns
    -------
    DataFrame, one row a group and pair of neighbouring sizes: group columns, smaller, larger, distance
    (root mean square, nats), rates (how many are compared), determined, reason.

    Raises
    ------
    TableError: as :func:`hpt.transfer_report`, and for a band that is not positive.
    """
    check_band(octaves)
    sweep = read_table(table, scale=scale, by=by)
    rows = []
    for named, curves in sweep.curves(loss_at_start):
        for smaller, larger in pairwise(curves):
            moved = curves[smaller]
            moved.index -= beta * log2(larger / smaller)
            sizes = {"smaller": smaller, "larger": larger}
            rows.append(named | sizes | _distance(moved, curves[larger], octaves))
    return pd.DataFrame(rows)


def _distance(first, second, octaves):
    """Of two curves, losses by log2 of the learning rate."""
    curves = [_excess(first), _excess(second)]
    near = [curve.index[abs(curve.index - curve.idxmin()) <= octaves + 1e-9] for curve in curves]
    both = pd.concat(curves, axis=1, join="inner")
    both = both[both.index.isin(near[0].union(near[1]))]
    whole = len(both) >= FEWEST_RATES
    # Where both diverged they agree.
    apart = both.diff(axis=1).iloc[:, 1].fillna(0.0)
    return {
        "distance": sqrt(mean(apart**2)) if whole else nan,
        "rates": len(both),
        "determined": whole,
        "reason": "" if whole else TOO_FEW,
    }


def _excess(losses):
    """Losses above the best; their rates to six digits, so that those of two sizes meet."""
    rates = losses.index.to_series().round(6)
    return (losses - losses.min()).set_axis(rates)
