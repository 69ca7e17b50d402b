"""The experiment in one file, at tiny size, and its loop against hpt's."""

import dataclasses
import itertools

import pytest
import torch
from minimal import CONTEXT, Model, batch_of, groups_of, lr_factor, read_text, sweep, train

from hpt.data.source import load
from hpt.exercises.tasks import rates_by_name
from hpt.model.transformer import Transformer
from hpt.parameterization.groups import init_weights, param_groups
from hpt.runs.train_config import TrainConfig
from hpt.runs.train_config import lr_factor as factor_of_hpt
from hpt.training.loop import train as train_by_hpt


def test_a_tiny_sweep_has_every_cell_and_learns():
    text = read_text(most=20_000)
    found = sweep(text, widths=(16, 32), log2_lrs=(-7, -5), steps=8)
    assert list(found) == list(itertools.product((False, True), (16, 32), (-7, -5)))
    assert all(2 < loss < 6 for loss in found.values())
    assert found[True, 32, -5] < found[False, 32, -5]


def test_batches_are_a_function_of_the_step_and_targets_are_the_next_bytes():
    text = torch.arange(1000)
    inputs, targets = batch_of(text, 3)
    assert inputs.shape == (16, CONTEXT) and torch.equal(inputs + 1, targets)
    assert torch.equal(inputs, batch_of(text, 3)[0]) and not torch.equal(inputs, batch_of(text, 4)[0])


def test_the_groups_are_those_of_the_library():
    model = Model(32)
    rates = rates_by_name(groups_of(model, 0.01, embd=True), model)
    assert len(rates) == len(list(model.parameters()))
    assert {name for name, rate in rates.items() if rate == 0.32} == {
        "token_embedding.weight",
        "position_embedding.weight",
    }
    assert set(rates_by_name(groups_of(model, 0.01, embd=False), model).values()) == {0.01}


@pytest.mark.parametrize("steps", [10, 300])
def test_the_schedule_is_the_profiles(steps):
    config = TrainConfig(steps=steps, warmup_steps=steps // 5, schedule="wsd", decay_fraction=0.2)
    for step in range(steps):
        assert lr_factor(step, steps) == pytest.approx(factor_of_hpt(config, step, steps))


def test_the_loop_is_that_of_the_library(tiny_run):
    """With hpt's model, batches and groups it trains to hpt's losses."""
    steps = 10
    run = dataclasses.replace(
        tiny_run,
        parameterization="SP+Embd",
        train=dataclasses.replace(
            tiny_run.train, steps=steps, warmup_steps=2, decay_fraction=0.2, beta2=0.95
        ),
    )
    model = Transformer(run.model)
    init_weights(model, "SP+Embd", generator=torch.Generator().manual_seed(0))
    groups = param_groups(model, "SP+Embd", lr=run.train.lr)
    data = load(run.data)
    losses = train(model, groups, lambda step: data.batch(0, step, 4, run.model.context), steps)
    assert losses == pytest.approx(train_by_hpt(run).train_loss.tolist(), rel=1e-5)
