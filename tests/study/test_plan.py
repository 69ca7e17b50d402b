"""Which runs a study consists of, and how many more may come."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from adaptive import twin

from hpt.errors import ConfigError
from hpt.metrics.transfer import transfer_report
from hpt.runs.run_config import run_decay
from hpt.study.plan import forecast, grid_plan, telling
from hpt.study.profiles import load_profile


def losses_of(study, loss_at):
    """Losses of all runs that the plan asks for, wave by wave, from a function of (log2_lr, width,
    seed)."""
    known = {}
    while new := [c for c in study.plan(known) if c not in known]:
        known |= {c: loss_at(np.log2(c.train.lr), c.model.width, c.seed) for c in new}
    return known


def rates(known, width, seed=0, name="SP"):
    return sorted(
        np.log2(c.train.lr)
        for c in known
        if c.model.width == width and c.seed == seed and str(c.parameterization) == name
    )


def test_plan_is_the_grid_then_seeds_around_the_best(tiny_study):
    assert len(tiny_study.plan({})) == 2 * 2 * 3
    known = losses_of(tiny_study, lambda x, width, seed: (x + 6) ** 2)
    assert rates(known, 8) == [-8, -6, -4] == rates(known, 8, seed=1)
    assert not rates(known, 8, seed=2)


def test_plan_extends_an_edge_up_to_the_limit(tiny_study):
    low = losses_of(tiny_study, lambda x, width, seed: (x + 9.4) ** 2)
    assert rates(low, 8) == [-10, -8, -6, -4] and rates(low, 8, seed=1) == [-10, -8]
    far = losses_of(tiny_study, lambda x, width, seed: (x - 40) ** 2)
    assert rates(far, 8) == [-8, -6, -4, -2] and rates(far, 8, seed=1) == [-4, -2]
    both = losses_of(dataclasses.replace(tiny_study, extend=9), lambda x, width, seed: (x + 2 * width) ** 2)
    assert rates(both, 8)[0] == -18 and rates(both, 16)[0] == -26  # nine are the most


def test_plan_goes_beyond_an_edge_that_the_mean_over_seeds_has(tiny_study):
    optima = {0: -5.8, 1: -3.9}
    known = losses_of(tiny_study, lambda x, width, seed: (x - optima[seed]) ** 2)
    assert rates(known, 8) == [-8, -6, -4, -2] and rates(known, 8, seed=1) == [-8, -6, -4]
    fixed = losses_of(
        dataclasses.replace(tiny_study, extend=0), lambda x, width, seed: (x - optima[seed]) ** 2
    )
    assert rates(fixed, 8) == [-8, -6, -4]


def test_plan_stands_divergence(tiny_study):
    known = losses_of(tiny_study, lambda x, width, seed: np.inf if x > -5 else x + 6)
    assert rates(known, 8) == [-10, -8, -6, -4]
    hopeless = losses_of(tiny_study, lambda *_: np.inf)  # lower learning rates are tried, no seeds are wasted
    assert rates(hopeless, 8) == [-10, -8, -6, -4] and not rates(hopeless, 8, seed=1)


def test_forecast_bounds_every_outcome(tiny_study):
    now, later, more = forecast(tiny_study, {})
    assert (len(now), len(later)) == (12, 12)
    finals = []
    for optimum in range(-40, 41):
        known = {}
        while new := [c for c in tiny_study.plan(known) if c not in known]:
            known |= {c: abs(math.log2(c.train.lr) - optimum / 2) for c in new}
        finals.append(len(known))
    assert max(finals) == len(now) + len(later) + more
    half = dict.fromkeys(now[:6], 1.0)
    assert len(forecast(tiny_study, half)[0]) >= 6 and not set(half) & set(forecast(tiny_study, half)[0])


def test_an_adaptive_search_is_forecast_as_the_grid(tiny_study):
    adaptive = dataclasses.replace(tiny_study, search="adaptive")
    assert forecast(adaptive, {}) == forecast(tiny_study, {})
    assert adaptive.plan({}) != grid_plan(adaptive, {}) == tiny_study.plan({})


def test_doses_are_swept_as_weight_decays_are(tiny_study):
    """λ follows each learning rate; a dose of 0 is the runs that exist without one."""
    dosed = dataclasses.replace(tiny_study, doses=(0.0, 0.3))
    known = losses_of(dosed, lambda x, width, seed: (x + 6) ** 2)
    assert len(known) == 2 * len(losses_of(tiny_study, lambda x, width, seed: (x + 6) ** 2))
    assert set(tiny_study.plan({})) < set(known) and {c.train.dose for c in known} == {None, 0.3}
    for c in known:
        assert run_decay(c) * c.train.lr * 6 == pytest.approx(c.train.dose or 0)
    adaptive = dataclasses.replace(dosed, search="adaptive")
    assert {c.train.dose for c in adaptive.plan({})} == {None, 0.3}


def test_a_study_replaces_no_weight_decay_in_silence(tiny_study):
    base = dataclasses.replace(tiny_study.base, train=dataclasses.replace(tiny_study.base.train, dose=0.3))
    with pytest.raises(ConfigError, match=r"doses=\(0\.3,\)"):
        dataclasses.replace(tiny_study, base=base)
    with pytest.raises(ConfigError, match="either weight_decays or doses"):
        dataclasses.replace(tiny_study, doses=(0.3,), weight_decays=(0.1,))


@pytest.fixture
def quick():
    return load_profile("quick")


def test_a_basin_is_swept_as_far_as_its_window_reaches(quick):
    study = dataclasses.replace(quick.select(["SP"], [16]), best_seeds=1)
    assert rates(study.plan({}), 16) == [-6, -5, -4]
    for best, found in ((-5, [-7, -6, -5, -4, -3]), (-6, [-8, -7, -6, -5, -4]), (-9, range(-11, -3))):
        known = losses_of(study, lambda x, width, seed, best=best: 0.1 * (x - best) ** 2)
        assert rates(known, 16) == [*found]
    # Where runs diverge an octave above the best, the window reaches further down.
    cliff = losses_of(study, lambda x, width, seed: np.inf if x > -5 else 0.1 * (x + 5) ** 2)
    assert rates(cliff, 16) == [-8, -7, -6, -5, -4, -3]
    hopeless = losses_of(study, lambda *_: np.inf)
    assert rates(hopeless, 16) == [*range(-11, -3)]


def test_a_basin_reaches_two_octaves_beyond_the_best_of_its_means(quick):
    """Of seed 0 the best is -5, of all three seeds -4: what two octaves too many cost is known of both."""
    study = dataclasses.replace(quick.select(["SP"], [16]), best_seeds=3)
    known = losses_of(study, lambda x, width, seed: 0.1 * (x + (4 if seed else 4.6)) ** 2)
    assert rates(known, 16) == [-7, -6, -5, -4, -3, -2]
    assert rates(known, 16, seed=2) == [-6, -5, -4]


@pytest.mark.parametrize("seed", range(3))
def test_what_a_basin_leaves_out_moves_no_figure(quick, seed):
    """On sweeps of a known law: the report on the basins alone, and with the rest of the grid."""
    _, losses = twin(quick, noise=0.02, common=0.2, shape="bent", seed=seed)

    def loss_of(run):
        return losses.get(cell_of(run), np.inf)

    basins = known_by(quick, loss_of)
    seeds = dataclasses.replace(quick, search="grid", best_seeds=1)
    both = basins | known_by(seeds, loss_of)
    assert len(both) > len(basins) + 12
    assert_same_figures(basins, both)


def test_what_a_basin_leaves_out_moves_no_figure_of_real_runs(quick):
    """The losses of quick's whole grid, as two cores and a GPU trained it in bf16."""
    table = pd.read_csv(Path(__file__).with_name("quick_losses.csv"))
    cells = zip(table["parameterization"], table["width"], table["log2_lr"], table["seed"], strict=True)
    losses = dict(zip(cells, table["loss"], strict=True))
    grid = {}
    for study in (dataclasses.replace(quick, search="grid", best_seeds=1), quick):
        for run in known_by(study, lambda run: losses.get(cell_of(run), math.nan)):
            grid[run] = losses.get(cell_of(run), math.nan)
    grid = {run: loss for run, loss in grid.items() if math.isfinite(loss)}
    basins = {run: grid[run] for run in known_by(quick, grid.get) if run in grid}
    assert len(basins) < 0.85 * len(grid)
    assert_same_figures(basins, grid)


def cell_of(run):
    return run.parameterization.name, run.model.width, float(np.log2(run.train.lr)), run.seed


def known_by(study, loss_of):
    """All losses that the plan asks for."""
    known = {}
    while new := [run for run in study.plan(known) if run not in known]:
        known |= {run: loss_of(run) for run in new}
    return known


def assert_same_figures(one, other):
    def figures(losses):
        rows = [
            (str(c.parameterization), c.model.width, c.train.lr, c.seed, loss) for c, loss in losses.items()
        ]
        table = pd.DataFrame(rows, columns=["parameterization", "width", "lr", "seed", "loss"])
        return transfer_report(table, reference="μP", bootstraps=20)

    a, b = figures(one), figures(other)
    columns = ["E", "E_extrap", "octave_error", "alpha", "beta", "gamma_log", "kappa", "R"]
    np.testing.assert_allclose(a.to_frame()[columns], b.to_frame()[columns], rtol=1e-9)
    np.testing.assert_allclose(a.basins[["log2_lr", "loss"]], b.basins[["log2_lr", "loss"]], rtol=1e-9)


def test_a_width_is_swept_in_some_parameterizations_alone(tiny_study):
    study = dataclasses.replace(tiny_study, only={16: ("SP",)}, best_seeds={8: 3})
    assert {(str(c.parameterization), c.model.width) for c in study.plan({})} == {
        ("SP", 8),
        ("μP", 8),
        ("SP", 16),
    }
    known = losses_of(study, lambda x, width, seed: (x + 6) ** 2)
    assert rates(known, 8, seed=2) == [-8, -6, -4] and not rates(known, 16, seed=1)
    alone = dataclasses.replace(study, best_neighbours={8: 0})
    assert rates(losses_of(alone, lambda x, *_: (x + 6) ** 2), 8, seed=2) == [-6]
    adaptive = losses_of(dataclasses.replace(study, search="adaptive"), lambda x, *_: (x + 6) ** 2)
    assert rates(adaptive, 8, name="μP") and rates(adaptive, 16) and not rates(adaptive, 16, name="μP")
    assert study.select(["μP"]).widths == (8,) and study.select(["SP"]).only == {
        16: study.parameterizations[:1]
    }
    for wrong in ({"only": {32: ("SP",)}}, {"only": {8: ("SP+LN",)}}, {"best_seeds": {32: 2}}):
        with pytest.raises(ConfigError, match="does not sweep"):
            dataclasses.replace(tiny_study, **wrong)


def test_the_coarse_grid_tells_most(quick):
    study = dataclasses.replace(quick, search="grid").select(["SP"], [64])
    order = [telling(study, study.run_config(study.parameterizations[0], 64, x)) for x in range(-10, -3)]
    assert order == [1, 0, 1, 0, 1, 0, 1]
    assert telling(study, study.run_config(study.parameterizations[0], 64, -7, seed=1)) == 2
