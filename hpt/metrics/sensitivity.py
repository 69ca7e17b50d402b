"""LR sensitivity: what a learning rate that is somewhat wrong costs on average, without any fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import TableError
from hpt.metrics.table import Columns, read_table

BAND_BEYOND = "the grid ends inside the band"


def lr_sensitivity(
    table: Any,
    *,
    octaves: float = 2.0,
    loss_at_start: float = np.inf,
    scale: str = "width",
    by: Columns = None,
) -> pd.DataFrame:
    """Mean excess loss over the learning rates tried within some octaves of the best one tried.

    As Wortsman et al. 2023 (arXiv 2309.14322) define it: the mean of min(loss, loss at the start) minus
    the best loss; they take one fixed range of rates, here the band moves with the optimum, so that
    widths whose optima differ compare. Means over seeds are taken first.

    Parameters
    ----------
    table, scale, by: as in :func:`hpt.transfer_report`.
    octaves: half the width of the band.
    loss_at_start: a run counts no worse than an untrained model, ln(vocabulary) nats; without it a
        diverged run makes the mean infinite.

    Returns
    -------
    DataFrame, one row a group and size: group columns, the scale, log2_lr and loss of the best rate
    tried, sensitivity (nats), rates (how many lie in the band), determined, reason: where the grid ends
    inside the band, the mean is over one side more than the other.

    Raises
    ------
    TableError: as :func:`hpt.transfer_report`, and for a band that is not positive.
    """
    check_band(octaves)
    sweep = read_table(table, scale=scale, by=by)
    rows = []
    for named, curves in sweep.curves(loss_at_start):
        for size, losses in curves.items():
            rows.append(named | {scale: size} | _over_band(losses, octaves))
    return pd.DataFrame(rows)


def check_band(octaves: float) -> None:
    """Refuse a band of learning rates that is not positive, with a TableError."""
    if not octaves > 0:
        raise TableError(f"octaves={octaves!r}: a band is wider than nothing.", remedy="octaves=2.0")


def _over_band(losses, octaves):
    best = losses.idxmin()
    # A rate at the band's end belongs to it, whatever rounding says.
    band = losses[abs(losses.index - best) <= octaves + 1e-9]
    whole = losses.index.min() <= best - octaves + 1e-9 and losses.index.max() >= best + octaves - 1e-9
    return {
        "log2_lr": best,
        "loss": losses[best],
        "sensitivity": band.mean() - losses[best],
        "rates": len(band),
        "determined": bool(whole),
        "reason": "" if whole else BAND_BEYOND,
    }
