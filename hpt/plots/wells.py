"""The fitted well of one width, as points of a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpt.metrics.basin import LN2
from hpt.metrics.report import TransferReport
from hpt.metrics.wells import well_loss

REACH = 2.5  # octaves about an optimum within which its well is drawn
CURVE_POINTS = 81


def well_curve(report: TransferReport, well: Mapping[str, Any]) -> np.ndarray:
    """Points (2, n) of a fitted well near its optimum, as far as rates were tried: log2 η, and the loss.

    Parameters
    ----------
    report: that the well is of.
    well: a row of its ``basins``; one without curvature has no points.
    """
    if math.isnan(well["curvature"]):
        return np.empty((2, 0))
    columns = list(report.group_columns)
    key = [well[column] for column in columns]
    (group,) = (group for group in report.groups if list(group.key) == key)
    table = report.table
    of_group = (table[columns] == key).all(axis=1)
    of_width = table[report.scale] == well[report.scale]
    tried = table.loc[of_group & of_width, "log2_lr"]
    best = well["log2_lr"]
    low = max(best - REACH, tried.min())
    high = min(best + REACH, tried.max())
    log2_lr = np.linspace(low, high, CURVE_POINTS)
    u = (log2_lr - best) * LN2
    loss = well_loss(u, well["loss"], well["curvature"], group.fit.skew)
    return np.stack([log2_lr, loss])
