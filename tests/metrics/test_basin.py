"""Basins: edges, windows, exactness on skewed wells, and the honesty of their intervals."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.basin import ALL_DIVERGED, CLIFF, EDGE, FEW_RATES, MOST_RUNS, basin_window, edge_of
from hpt.metrics.intervals import WIDE
from hpt.metrics.transfer import basins

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("losses", "edge"),
    [
        ([3, 2, 1, 2, 3], ""),
        ([1, 2, 3, 4, 5], "low"),
        ([5, 4, 3, 2, 1], "high"),
        ([5, 4, 3, 2, INF], ""),
        ([5, 4, 3, 2, NAN], ""),
        ([INF, 1, 2, 3, 4], ""),
        ([1, INF, INF, INF, INF], "low"),
        ([INF, INF, INF, INF, INF], "low"),
    ],
)
def test_edges(losses, edge):
    log2_lrs = [-9, -8, -7, -6, -5]
    assert edge_of(log2_lrs, losses) == edge
    order = [3, 1, 4, 0, 2]
    assert edge_of(np.array(log2_lrs)[order], np.array(losses, float)[order]) == edge


def test_an_edge_is_decided_on_means_over_seeds():
    assert edge_of([-8, -8, -7, -7, -6, -6], [1.0, 3.0, 1.5, 1.5, 2, 2]) == ""
    assert edge_of([-7], [2.0]) == "low"


def test_the_window_is_an_unbroken_stretch_near_the_best():
    log2_lr = np.arange(-12.0, -3)
    loss = 3 + 0.05 * (log2_lr + 8) ** 2
    assert log2_lr[basin_window(log2_lr, loss)].tolist() == [-10, -9, -8, -7, -6]
    loss[5] = INF
    assert log2_lr[basin_window(log2_lr, loss)].tolist() == [-11, -10, -9, -8]
    loss[5:] = [3.5, 9.0, 3.2, 3.2]
    assert log2_lr[basin_window(log2_lr, loss)].tolist() == [-10, -9, -8, -7]


@pytest.mark.parametrize(("edge", "grid"), [("low", np.arange(-5, 1)), ("high", np.arange(-14, -9))])
def test_an_edge_optimum_is_an_interval_open_on_that_side(edge, grid):
    law = Law(beta=0.0, log2_lr=-7.0, diverges_above=99)
    found = basins(synthetic_sweep(law, log2_lrs=grid, noise=0.001), bootstraps=50)
    assert (found.edge == edge).all() and not found.determined.any() and set(found.reason) == {EDGE}
    outer, inner = ("log2_lr_low", "log2_lr_high") if edge == "low" else ("log2_lr_high", "log2_lr_low")
    assert np.isinf(found[outer]).all()
    assert (found[inner] == grid[0 if edge == "low" else -1]).all()
    assert found.curvature.isna().all()


def test_a_best_run_below_diverged_ones_is_no_edge():
    law = Law(beta=0.0, log2_lr=-7.2, diverges_above=0.5)
    table = synthetic_sweep(law, log2_lrs=np.arange(-11, -4), noise=0.001)
    found = basins(table, bootstraps=50)
    assert (found.edge == "").all() and found.determined.all()
    assert found.log2_lr.to_numpy() == pytest.approx(-7.2, abs=0.15)


def test_a_loss_that_falls_until_runs_diverge_is_bracketed():
    law = Law(beta=0.0, log2_lr=-3.0, curvature=0.05, diverges_above=2.5)
    table = synthetic_sweep(law, log2_lrs=np.arange(-11, -4), noise=0.001)
    table.loc[table.log2_lr >= -7, ["loss", "diverged"]] = [INF, True]
    found = basins(table, bootstraps=50)
    assert set(found.reason) == {CLIFF} and (found.edge == "").all() and not found.determined.any()
    assert found[["log2_lr_low", "log2_lr", "log2_lr_high"]].drop_duplicates().to_numpy().tolist() == [
        [-9, -8, -7]
    ]


def test_each_width_that_tells_nothing_says_why():
    table = synthetic_sweep(Law(diverges_above=99), widths=(32, 64, 128, 256), noise=0.001)
    rows = table.width == 64
    table.loc[rows, "loss"] = INF
    rows = table.width == 128
    table.loc[rows, "loss"] = 5 - 0.05 * (table.log2_lr[rows] - table.log2_lr[rows].mean()) ** 2
    table = table[(table.width != 256) | table.log2_lr.isin(sorted(table.log2_lr[table.width == 256])[3:5])]
    found = basins(table, bootstraps=50).set_index("width")
    assert found.reason[32] == "" and found.determined[32]
    assert found.reason[64] == ALL_DIVERGED and np.isnan(found.log2_lr[64])
    assert found.reason[128] == EDGE
    assert found.reason[256] in (EDGE, FEW_RATES)
    assert not found.determined[[64, 128, 256]].any()


def test_a_basin_that_no_smooth_well_fits_is_bracketed_by_its_neighbours():
    table = synthetic_sweep(Law(), widths=(64,), log2_lrs=[-9, -8, -7, -6, -5], noise=0.0)
    table["loss"] = [3.0, 3.3, 2.98, 3.3, 3.0]  # the middle is best, the curve bends down
    found = basins(table, bootstraps=50).iloc[0]
    assert (found.log2_lr_low, found.log2_lr_high) == (-8, -6) and found.method == "grid"
    assert -8 < found.log2_lr < -6 and found.edge == "" and found.determined
    assert 2.9 < found.loss < 2.99 and basins(table, bootstraps=50, octaves=0.9).reason[0] == WIDE


def test_the_best_rate_beside_the_end_of_its_grid_is_no_edge():
    lrs = [3e-4, 6e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.5e-2]
    losses = {
        256: [2.460, 2.432, 2.412, 2.415, 2.434, 2.479, 2.576],
        1024: [2.259, 2.192, 2.477, 2.512, 2.606, 2.761, 3.107],
    }
    rows = [
        {"width": w, "lr": lr, "loss": x} for w, xs in losses.items() for lr, x in zip(lrs, xs, strict=True)
    ]
    found = basins(pd.DataFrame(rows), bootstraps=50).set_index("width").loc[1024]
    assert found.edge == "" and np.exp2([found.log2_lr_low, found.log2_lr_high]) == pytest.approx(
        [3e-4, 1e-3]
    )
    assert found.loss > 2.1


@pytest.mark.parametrize("seeds", [1, 2])
def test_grids_of_1_3_10_have_intervals(seeds):
    law = Law(beta=0.0, log2_lr=np.log2(1.6e-3), curvature=0.1)
    grid = np.log2([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2])
    found = basins(synthetic_sweep(law, log2_lrs=grid, noise=0.003, seeds=seeds), bootstraps=100)
    assert found.log2_lr_low.lt(law.log2_lr + 0.01).all() and found.log2_lr_high.gt(law.log2_lr).all()
    one = basins(synthetic_sweep(law, widths=[64], log2_lrs=grid[1:5:1], noise=0.0)).iloc[0]
    assert np.isfinite([one.log2_lr_low, one.log2_lr_high]).all()


def test_one_wild_run_hardly_moves_the_optimum():
    law = Law()
    table = synthetic_sweep(law, noise=0.005, seeds=2)
    clean = basins(table, bootstraps=20)
    low_side = table.index[(table.width == 128) & (table.log2_lr == -8) & (table.seed == 1)]
    table.loc[low_side, "loss"] += 0.15
    wild = basins(table, bootstraps=20)
    assert np.abs(wild.log2_lr - clean.log2_lr).max() < 0.12


def test_intervals_narrow_with_seeds_and_widen_with_noise():
    def width(noise, seeds):
        found = [
            basins(synthetic_sweep(Law(), noise=noise, seeds=seeds, seed=i), bootstraps=100) for i in range(6)
        ]
        return np.mean([(f.log2_lr_high - f.log2_lr_low).median() for f in found])

    assert width(0.01, 4) < 0.8 * width(0.01, 1)
    assert width(0.02, 1) > 1.3 * width(0.01, 1)


def test_so_many_runs_are_thinned_and_said():
    many = synthetic_sweep(Law(diverges_above=99), widths=[64, 128], seeds=400, noise=0.01)
    rows = basins(many, bootstraps=20)
    assert (rows.n == MOST_RUNS).all() and rows.determined.all()
    assert np.abs(rows.log2_lr - Law().best_log2_lr(rows.width)).max() < 0.1
    rates = np.linspace(-10, -4, 2000)
    drawn = synthetic_sweep(Law(diverges_above=99), widths=[128], log2_lrs=rates, noise=0.01)
    (one,) = basins(drawn, bootstraps=20).itertuples()
    assert one.n == MOST_RUNS and abs(one.log2_lr - Law().log2_lr) < 0.1
