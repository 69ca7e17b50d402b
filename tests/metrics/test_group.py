"""The fit of one group: which widths have a well, outliers, and edges in the law."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.basin import EDGE, gather
from hpt.metrics.group import fit_group

LAW = Law(shape="linex", skew=0.5)
WIDTHS = (32, 64, 128, 256)


def sweep(**changes):
    table = synthetic_sweep(LAW, **{"widths": WIDTHS, "noise": 0.002, "seeds": 2} | changes)
    return table[np.isfinite(table.loss)]


def test_wells_and_residuals_of_a_group():
    fit = fit_group(("SP",), gather(sweep(), "width"))
    assert fit.key == ("SP",) and fit.fitted.tolist() == [0, 1, 2, 3] and not len(fit.edges)
    assert fit.log2_lr_W == pytest.approx(LAW.best_log2_lr(WIDTHS), abs=0.05)
    u_W, loss_W, h_W = fit.wells
    assert loss_W == pytest.approx(LAW.best_loss(WIDTHS), abs=0.003)
    assert np.abs(u_W).max() < 1 and (h_W > 0).all()
    assert fit.residual_WxP[fit.basins.inside_WxP].std() == pytest.approx(0.002, rel=0.3)


def test_the_points_given_stay_as_they_are():
    table = sweep()
    table.loc[table.width == 64, "loss"] *= -1
    table["loss"] += 10
    points = gather(table, "width")
    reasons = points.reason_W.copy()
    fit_group((), points)
    assert (points.reason_W == reasons).all() and set(np.unique(points.weight_WxP)) <= {0, 1}


def test_a_width_that_bends_down_keeps_the_neighbours_of_its_best_rate():
    table = sweep(seeds=1, log2_lrs=[-9, -8, -7, -6, -5], widths=(64, 128))
    table.loc[table.width == 64, "loss"] = [3.0, 3.3, 2.98, 3.3, 3.0]
    fit = fit_group((), gather(table, "width"))
    assert fit.points.reason_W.tolist() == ["", ""] and fit.points.narrow_W.tolist() == [True, False]
    assert fit.points.rates_W[0] == 3 and fit.points.inside_WxP[0].sum() == 3
    assert -8 < fit.log2_lr_W[0] < -6


def test_a_wild_run_weighs_less():
    table = sweep()
    wild = table.index[(table.width == 128) & (table.seed == 1)][3]
    table.loc[wild, "loss"] += 0.2
    fit = fit_group((), gather(table, "width"))
    weights = fit.points.weight_WxP[fit.points.inside_WxP]
    assert weights.min() < 0.1 and (weights > 0.5).mean() > 0.9


def test_an_edge_width_that_agrees_takes_part_in_the_law_alone():
    table = sweep()
    cut = table[(table.width != 32) | (table.log2_lr < LAW.best_log2_lr(32) - 0.6)]
    fit = fit_group((), gather(cut, "width"))
    assert fit.points.reason_W.tolist() == [EDGE, "", "", ""]
    assert fit.edges.tolist() == [0] and fit.fitted.tolist() == [1, 2, 3]
    assert fit.law.log2_lr(32.0).item() == pytest.approx(float(LAW.best_log2_lr(32)), abs=0.2)
