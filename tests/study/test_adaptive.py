"""The adaptive search: finds η*, for fewer runs than the grid, and is a function of the losses."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hpt import cli
from hpt.analysis.synthetic import Law
from hpt.metrics.basin import basin_window, middle
from hpt.study.profiles import load_profile
from hpt.study.study import Study

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from adaptive import compare, summary


@pytest.fixture(scope="module")
def quick() -> Study:
    """Its sizes, with two seeds at every width."""
    two = {"best_seeds": 2, "best_neighbours": {}}
    return dataclasses.replace(load_profile("quick"), search="adaptive", target=0.5, **two)


def losses_of(study, loss_at, known=None):
    """All losses that the plan asks for, round by round, and how many runs each round had."""
    known, rounds = dict(known or {}), []
    while new := [c for c in study.plan(known) if c not in known]:
        assert len(set(new)) == len(new)
        rounds.append(len(new))
        known |= {c: loss_at(np.log2(c.train.lr), c.model.width, c.seed) for c in new}
    return known, rounds


def rates(known, width=16):
    return sorted({round(float(np.log2(c.train.lr)), 9) for c in known if c.model.width == width})


def noisy(law, noise):
    def loss(x, width, seed):
        key = [round(2 * x) + 100, width, seed]
        return float(law.loss(width, x)) + noise * np.random.default_rng(key).standard_normal()

    return loss


def test_spends_less_than_the_grid_and_narrows_every_basin(quick):
    found = compare(6, study=quick.select(["SP+Embd", "μP"]), target=0.5, seed=40)
    made = summary(found)
    assert made.runs["adaptive"] < made.runs["grid"] and made.flops["adaptive"] < made.flops["grid"]
    assert made.error["adaptive"] < 0.15 and made.open.max() == 0 and made.covered["adaptive"] >= 80
    cells = found[found.plan == "adaptive"]
    assert ((cells.interval < 0.6) | (cells.runs >= 10)).all()  # narrow enough, or as dear as the grid


@pytest.mark.parametrize("shape, skew", [("parabola", 0.0), ("bent", 1.0), ("linex", 0.5)])
def test_finds_the_optimum(quick, shape, skew):
    law = Law(shape=shape, skew=skew, log2_lr=-7.7, beta=0.6, curvature=0.3, gamma=1.2)
    known, rounds = losses_of(quick.select(["SP"]), noisy(law, 0.005))
    for width in quick.widths:
        wide = [c for c in known if c.model.width == width]
        best = min(wide, key=known.get)
        assert abs(np.log2(best.train.lr) - law.best_log2_lr(width)) <= 1.01 and len(wide) <= 10
    assert min(rounds[:-1]) >= 2  # never one run at a time while there is more to do


def test_the_plan_is_a_function_of_the_losses(quick):
    study, law = quick.select(["SP"], [16, 32, 64]), noisy(Law(log2_lr=-7.5, curvature=0.2), 0.02)
    whole, _ = losses_of(study, law)
    plan = study.plan(whole)
    assert set(plan) == set(whole)
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        some = {c: whole[c] for c in rng.permutation(np.array(plan, dtype=object)) if rng.random() < share}
        begun = study.plan(some)
        assert begun == plan[: len(begun)]  # less known is a beginning of the same plan
        again, _ = losses_of(study, law, some)
        assert again == whole and study.plan(again) == plan
    others = {study.run_config(study.parameterizations[0], 16, -20.0, seed=7): 1.0}
    assert study.plan(whole | others) == plan


def test_runs_lie_on_one_lattice_that_holds_the_grid(quick):
    study = quick.select(["SP"], [16, 32])
    known, _ = losses_of(study, noisy(Law(log2_lr=-7.5), 0.01))
    assert all(2 * x == round(2 * x) for width in (16, 32) for x in rates(known, width))
    grid = set(dataclasses.replace(study, search="grid").plan({}))
    assert len(grid & set(known)) >= 4  # those records serve both plans


def test_edges_are_followed_to_the_limit(quick):
    study = quick.select(["SP"], [16])  # grid −8 to −2, three steps beyond it on both sides
    near, _ = losses_of(study, lambda x, *_: 0.2 * (x + 9.2) ** 2)
    assert rates(near)[0] <= -10 and any(abs(x + 9.2) <= 0.8 for x in rates(near))
    for far, end in ((-40, -11), (40, 1)):
        known, _ = losses_of(study, lambda x, *_, far=far: (x - far) ** 2)
        assert end in rates(known) and rates(known)[0] >= -11 and rates(known)[-1] <= 1 and len(known) < 10


def test_a_hopeless_cell_ends_and_stops_no_other(quick):
    study = quick.select(["SP"])
    known, _ = losses_of(
        study, lambda x, width, _: np.inf if width == 32 else noisy(Law(), 0.01)(x, width, _)
    )
    hopeless = [c for c in known if c.model.width == 32]
    assert 4 <= len(hopeless) <= 10 and all(len(rates(known, w)) >= 4 for w in (16, 64, 128))
    everything, _ = losses_of(study, lambda *_: np.nan)
    assert len(everything) <= 40 and rates(everything)[0] == -11


def test_wider_widths_start_where_the_narrower_one_points(quick):
    study = quick.select(["SP"], [16, 32])
    known, rounds = losses_of(study, lambda x, width, _: 0.2 * (x + 6.5 + np.log2(width / 16)) ** 2)
    assert rounds[0] == 4 and {-9.5, -8.5, -6.5, -5.5} <= set(rates(known, 32))  # about −7.5


def test_a_study_runs_adaptively_from_the_command_line(tmp_path, tiny_study, monkeypatch):
    study = dataclasses.replace(
        tiny_study.select(["SP"]), log2_lrs={8: (-8, -7, -6, -5, -4), 16: (-9, -8, -7, -6, -5)}
    )
    monkeypatch.setattr("hpt.load_profile", lambda name: study)
    arguments = [
        "study",
        "--adaptive",
        "--target",
        "1.0",
        "--store",
        str(tmp_path),
        "--workers",
        "1",
        "--csv",
    ]
    first = CliRunner().invoke(cli.main, [*arguments, str(tmp_path / "a.csv")])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(cli.main, [*arguments, str(tmp_path / "b.csv")])
    assert "runs are in the store" in again.output
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_a_gap_around_the_optimum_counts_from_its_middle():
    x = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    for tilt in (-0.01, 0.01):  # whichever side of the gap is better, the basin is the same
        assert middle(x, 0.1 * x**2 + tilt * x) == 0
        assert x[basin_window(x, 0.1 * x**2 + tilt * x)].tolist() == [-2, -1, 1, 2]
    grid = np.arange(-3.0, 4.0)
    assert middle(grid, (grid - 0.3) ** 2) == 0 and middle(x[:1], np.array([1.0])) == -3
    assert middle(np.array([0.0, 2.0]), np.array([1.0, np.inf])) == 0
