"""Horizons: a branched run is the separate run, bit for bit, for fewer steps."""

import dataclasses

import numpy as np
import pytest
import torch

import hpt
from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.runs.store import Store
from hpt.runs.train_config import TrainConfig
from hpt.training.horizons import branch_step, train_horizons
from hpt.training.loop import Training, train


def with_train(run, **values):
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


def same(a, b):
    return (
        a.run_id == b.run_id
        and a.config == b.config
        and np.array_equal(a.train_loss, b.train_loss)
        and a.val_loss == b.val_loss
        and a.diverged == b.diverged
        and a.tokens == b.tokens
    )


class Counter:
    """Counts the training batches drawn."""

    def __init__(self, source):
        self.source, self.steps = source, []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def batch(self, seed, step, *sizes):
        self.steps.append(step)
        return self.source.batch(seed, step, *sizes)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"decay_fraction": 0.33, "decay_power": 2.0, "final_lr": 0.1, "clip": 1.0, "micro_batch_size": 3},
        {"weight_decay": 0.1, "decay": "independent"},
        {"weight_decay": 0.1, "decay": "constant", "precision": "bf16"},
        {"decay_fraction": 0.0},
        {"embedding_boost": "early", "exponential_warmup": 4},
        {"decay_fraction": 1.0, "warmup_steps": 0},
    ],
)
def test_each_horizon_is_the_separate_run_bit_for_bit(tiny_run, values):
    run = with_train(tiny_run, **values)
    horizons = (40, 10, 21)
    for steps, result in zip(horizons, train_horizons(run, steps=horizons), strict=True):
        assert same(result, train(with_train(run, steps=steps)))
        assert len(result.train_loss) == steps


def test_a_trunk_saves_the_steps_that_it_should(tiny_run):
    data = Counter(load(tiny_run.data))
    results = train_horizons(tiny_run, steps=[20, 40, 80], data=data)
    assert sum(len(r.train_loss) for r in results) == 140
    assert len(data.steps) == 80 + 4 + 8  # the longest, and the decays of the others
    assert sorted(set(data.steps)) == list(range(80))
    assert all(r.seconds > 0 and r.tokens_per_second > 0 for r in results)


def test_branches_leave_where_the_learning_rates_part():
    c = TrainConfig(steps=1, warmup_steps=1)
    assert [branch_step(c, n, 800) for n in (200, 400, 800)] == [160, 320, 800]
    assert branch_step(dataclasses.replace(c, steps=1, final_lr=1.0), 200, 800) == 200  # no decay at all
    assert branch_step(TrainConfig(steps=40, warmup_steps=40), 10, 40) == 10  # warm-up alone


def test_budgets_in_tokens_per_parameter_share_the_trunk_too(tiny_run):
    data = Counter(load(tiny_run.data))
    by_tokens = train_horizons(tiny_run, steps=[30], tokens_per_parameter=[0.2, 0.1], data=data)
    assert len(data.steps) < sum(len(r.train_loss) for r in by_tokens)
    for result, budget in zip(by_tokens[1:], (0.2, 0.1), strict=True):
        alone = train(with_train(tiny_run, steps=None, tokens_per_parameter=budget))
        assert same(result, alone) and result.config.train.tokens_per_parameter == budget


@pytest.mark.parametrize(
    "bad_step", [3, 11, 26, 36]
)  # on the trunk of all, of two, of the longest; in its decay
def test_divergence_is_where_the_separate_run_has_it(tiny_run, bad_step, monkeypatch):
    run, source, whole = with_train(tiny_run, loss_bound=5.0), load(tiny_run.data), Training.take_step
    step_now = []

    class Poison(Counter):
        def batch(self, seed, step, *sizes):
            step_now[:] = [step]
            return super().batch(seed, step, *sizes)

    monkeypatch.setattr(
        Training, "take_step", lambda *a: whole(*a) * (np.nan if step_now == [bad_step] else 1.0)
    )
    horizons = [14, 28, 40]
    found = train_horizons(run, steps=horizons, data=Poison(source))
    alone = [train(with_train(run, steps=n), data=Poison(source)) for n in horizons]
    for a, b in zip(found, alone, strict=True):
        assert np.array_equal(a.train_loss, b.train_loss, equal_nan=True) and len(a.train_loss) == len(
            b.train_loss
        )
        assert a.val_loss == b.val_loss and a.diverged == b.diverged == (bad_step < len(b.train_loss))
    assert [r.diverged for r in found] == [bad_step < n for n in horizons]


def test_a_store_keeps_each_horizon_and_none_is_trained_twice(tmp_path, tiny_run):
    first = train_horizons(tiny_run, steps=[10, 20], store=tmp_path)
    store, data = Store(tmp_path), Counter(load(tiny_run.data))
    assert set(store.run_ids()) == {r.run_id for r in first}
    again = train_horizons(tiny_run, steps=[20, 10, 20], store=store, data=data)
    assert not data.steps and [r.run_id for r in again] == [first[i].run_id for i in (1, 0, 1)]
    more = train_horizons(tiny_run, steps=[10, 30, 20], store=store, data=data)
    assert len(data.steps) == 30 and same(more[1], train(with_train(tiny_run, steps=30)))
    assert len(list(store.run_ids())) == 3


def test_what_finished_is_kept_when_the_rest_is_interrupted(tmp_path, tiny_run):
    class Interrupted(Counter):
        def batch(self, seed, step, *sizes):
            if step == 25:
                raise KeyboardInterrupt
            return super().batch(seed, step, *sizes)

    source = load(tiny_run.data)
    with pytest.raises(KeyboardInterrupt):
        train_horizons(tiny_run, steps=[10, 20, 40], store=tmp_path, data=Interrupted(source))
    assert len(list(Store(tmp_path).run_ids())) == 2
    finished = train_horizons(tiny_run, steps=[10, 20, 40], store=tmp_path)
    assert all(
        same(r, train(with_train(tiny_run, steps=n))) for r, n in zip(finished, (10, 20, 40), strict=True)
    )


def test_the_study_of_one_budget_finds_its_runs(tmp_path, tiny_study, capsys):
    study = dataclasses.replace(tiny_study, best_seeds=1, extend=0).select(["SP"], [8])
    for config in study.plan({}):
        hpt.train_horizons(config, steps=[6, 12], store=tmp_path)
    for steps in (6, 12):
        table = dataclasses.replace(study, base=with_train(study.base, steps=steps)).run(tmp_path, workers=1)
        assert len(table) == 3 and (table.steps == steps).all()
    assert "to run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "values, steps, said",
    [
        ({"schedule": "cosine"}, [10, 20], "cosine.*\n.*number of steps"),
        ({"schedule": "linear"}, [10], "linear"),
        ({}, [], "no horizon"),
        ({"warmup_steps": 8}, [6, 20], "warmup_steps=8 exceeds"),
        ({}, [0], "steps"),
        ({"dose": 0.3}, [20, 40], "weight decay of its own"),
    ],
)
def test_what_has_no_trunk_is_refused(tiny_run, values, steps, said):
    with pytest.raises(ConfigError, match=said):
        train_horizons(with_train(tiny_run, **values), steps=steps)


def test_branches_and_trunk_go_their_own_ways(tiny_run):
    trunk = Training([tiny_run], load(tiny_run.data), torch.device("cpu"))
    trunk.advance(5)
    branches = [trunk.branch(tiny_run) for _ in range(2)]
    ends = []
    for run in (trunk, *branches):
        assert run.step == 5 and np.isnan(run.losses_RxS[0, 5:]).all()
        ends += run.finish()
    assert all(same(end, train(tiny_run)) for end in ends)
