"""The budget game: what is bought is charged, and a commitment scored beside par."""

import numpy as np
import pandas as pd
import pytest
from solved import solution

from hpt.errors import ConfigError
from hpt.exercises import Game
from hpt.exercises.game import _drawn
from hpt.metrics.transfer import basins
from hpt.study.references import reference


def test_a_run_is_what_the_stored_ones_say_and_costs_its_flops():
    game = Game("SP+Embd")
    table = reference("sixteen").table.query("parameterization == 'SP+Embd' and width == 32")
    budget = game.left
    assert budget == 3 * game.flops[128]
    assert game.buy(32, -6) == pytest.approx(table.query("log2_lr == -6")["loss"].mean())
    assert game.left == budget - game.flops[32]
    between = np.mean([table.query(f"log2_lr == {rate}")["loss"].mean() for rate in (-6, -5)])
    assert game.buy(32, -5.5) == pytest.approx(between)
    for rate in (-8, -7, -5, -4):
        game.buy(32, rate)
    assert basins(pd.DataFrame(game.bought), bootstraps=20)["determined"].all()


@pytest.mark.parametrize("width, log2_lr", [(48, -6), (32, 3), (32, -20), ("32", -6), (32, np.nan)])
def test_what_is_not_on_the_map_is_not_sold(width, log2_lr):
    game = Game()
    left = game.left
    with pytest.raises(ConfigError, match="not on the map"):
        game.buy(width, log2_lr)
    assert game.left == left and not game.bought


def test_the_budget_ends():
    game = Game(budget=1e12)
    with pytest.raises(ConfigError, match="left"):
        game.buy(128, -7)
    assert game.buy(64, -7) > 0 and game.buy(64, -6) > 0
    with pytest.raises(ConfigError, match="left"):
        game.buy(64, -5)


def test_an_unknown_variant_is_told():
    with pytest.raises(ConfigError, match=r"SP\+Embd"):
        Game("SP+Embed")


def test_par_is_computed_from_the_stored_runs():
    game = Game("μP")
    runs = reference("sixteen").table.query("parameterization == 'μP'")
    means = runs.groupby(["width", "log2_lr"])["loss"].mean()
    assert np.isnan(game.commit(np.nan).loc["you", "regret"]) and game.left > 0
    score = game.commit(means[128].idxmin())
    with pytest.raises(ConfigError, match=r"0 are left"):
        game.buy(16, -6)
    regret = score["regret"]
    assert regret["you"] == regret["full grid"] == 0 and score.loc["you", "FLOPs"] == 0
    tuned = means[16].idxmin()
    assert regret["unchanged"] == pytest.approx(means[128][tuned] - means[128].min())
    assert regret["1/n"] == pytest.approx(means[128][tuned - 3] - means[128].min())
    assert 0 <= regret["adaptive"] < regret["unchanged"]
    assert score["FLOPs"]["unchanged"] == 7 * game.flops[16]
    assert score["FLOPs"]["unchanged"] < score["FLOPs"]["adaptive"] < score["FLOPs"]["full grid"]


def test_a_seed_draws_a_map_whose_law_nobody_has_seen():
    first, again, other = (Game(seed=seed) for seed in (1, 1, 2))
    assert first.buy(32, -6) == again.buy(32, -6) != other.buy(32, -6)
    runs = _drawn(1, [16, 128])
    best = runs.groupby("width")["loss"].idxmin()
    assert runs["log2_lr"][best[16]] > runs["log2_lr"][best[128]] and np.isfinite(runs["loss"]).all()


def test_the_solution_beats_scaling_by_the_width_within_the_budget():
    module = solution("14")
    regret = {"strategy": [], "one_over_n": []}
    for seed in range(8):
        for name, regrets in regret.items():
            game = Game(seed=seed)
            log2_lr = getattr(module, name)(game)
            assert game.left >= 0
            truth = _drawn(seed, [128])
            best = truth.loc[truth["loss"].idxmin()]
            regrets.append(abs(log2_lr - best["log2_lr"]))
    assert np.mean(regret["strategy"]) < 0.5 < np.mean(regret["one_over_n"])
