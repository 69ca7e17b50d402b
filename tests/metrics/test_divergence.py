"""Finite losses of diverged runs: told from basins by their cliff or plateau."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.divergence import diverged_runs
from hpt.metrics.table import read_table

RATES = np.arange(-13.0, -4)
WELL = 3 + 0.02 * (RATES + 9) ** 2


@pytest.mark.parametrize("stuck", [5.0, 7.7, 10.8, 1e3, 1e30])
@pytest.mark.parametrize("first", [-8.0, -7.0, -5.0])
def test_a_cliff_is_seen_wherever_it_stands(stuck, first):
    gone = first <= RATES
    losses = np.where(gone, stuck, WELL)
    if stuck == 5.0 and first == -5.0:
        gone[:] = False  # four octaves above the best a basin may cost as much
    assert (diverged_runs(RATES, losses) == gone).all()


def test_a_plateau_is_seen_though_its_step_is_small():
    losses = np.array([3.2, 3.1, 3.0, 3.05, 3.9, 4.0, 4.05])
    assert diverged_runs(np.arange(7.0), losses).tolist() == [False] * 4 + [True] * 3


def test_one_seed_may_diverge_and_the_other_not():
    rates, losses = np.repeat(RATES, 2), np.repeat(WELL, 2)
    losses[11] = 9.0
    assert np.flatnonzero(diverged_runs(rates, losses)).tolist() == [11]


@pytest.mark.parametrize("shape", ["parabola", "linex", "bent", "kinked"])
def test_basins_are_left_alone(shape):
    law = Law(shape=shape, skew=0.8, curvature=0.3, diverges_above=9)
    for spacing in (0.5, 1.0, 1.6):
        table = synthetic_sweep(law, spacing=spacing, noise=0.01, count=7)
        near = (table.log2_lr - law.best_log2_lr(table.width)).abs() < 3
        frame = read_table(table[near]).frame
        assert np.isfinite(frame.loss).all()


def test_rates_too_low_to_learn_are_no_divergence():
    losses = np.array([10.0, 9.0, 5.0, 3.1, 3.0, 3.2])
    assert not diverged_runs(np.arange(6.0), losses).any()
    assert not diverged_runs(np.arange(3.0), np.full(3, np.inf)).any()
