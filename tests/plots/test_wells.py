"""A well is drawn as the formula has it, within the rates tried."""

import math

import numpy as np
import pytest

from hpt.metrics.basin import LN2
from hpt.metrics.wells import well_loss
from hpt.plots.wells import REACH, well_curve


def test_the_curve_is_the_formula_within_the_rates_tried(doubtful_report):
    report = doubtful_report
    fits = {group.key: group.fit.skew for group in report.groups}
    drawn = 0
    for well in report.basins.to_dict("records"):
        log2_lr, loss = well_curve(report, well)
        key = tuple(well[column] for column in report.group_columns)
        if math.isnan(well["curvature"]):
            assert log2_lr.size == 0
            continue
        drawn += 1
        u = (log2_lr - well["log2_lr"]) * LN2
        np.testing.assert_allclose(loss, well_loss(u, well["loss"], well["curvature"], fits[key]))
        assert np.ptp(log2_lr) <= 2 * REACH + 1e-9
        assert loss.min() == pytest.approx(well["loss"], abs=0.02)
    assert drawn
