"""The seam for optimizers: a second one trains where it can, and is refused by name where it cannot."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from hpt.config import config
from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.runs.train_config import TrainConfig, lr_factor
from hpt.training.horizons import train_horizons
from hpt.training.loop import train
from hpt.training.memory import step_bytes
from hpt.training.optimizers import OPTIMIZERS, OptimizerKind
from hpt.training.stacked import train_stacked
from hpt.training.start import build_model, rate_groups

CPU = torch.device("cpu")


@config
class AnyOptimizer(TrainConfig):
    """The fields of a run's training, with an optimizer that may have any name."""

    optimizer: str = "adamw"


def named(run, optimizer):
    """The same run by another optimizer."""
    values = vars(run.train) | {"optimizer": optimizer}
    return dataclasses.replace(run, train=AnyOptimizer(**values))


@pytest.fixture
def sgd_run(tiny_run, monkeypatch):
    """A run by plain SGD, one function."""

    def update(group, grads, c, scalars):
        for weight, grad in zip(group.parameters, grads, strict=True):
            lr = (group.lr * scalars[0]).view(-1, *[1] * (weight.ndim - 1))
            weight -= lr * grad

    monkeypatch.setitem(OPTIMIZERS, "sgd", OptimizerKind("adam", update, moments=0))
    return named(tiny_run, "sgd")


def test_eager_trains_by_the_optimizer_that_the_run_names(sgd_run, tiny_run):
    model, data, steps = build_model(sgd_run), load(sgd_run.data), sgd_run.train.steps
    groups = rate_groups(model, sgd_run)
    losses = []
    for step in range(steps):
        inputs, targets = data.batch(0, step, 4, 16)
        model.zero_grad()
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        losses.append(loss.item())
        for group in groups:
            lr = group["lr"] * lr_factor(sgd_run.train, step, steps)
            for p in group["params"]:
                p.data -= lr * p.grad
    result = train(sgd_run, device="cpu")
    assert result.train_loss == pytest.approx(losses, rel=1e-5)
    by_adamw = train(tiny_run, device="cpu")
    assert result.val_loss != by_adamw.val_loss and result.run_id != by_adamw.run_id


def test_horizons_branch_by_it_and_memory_counts_its_state(sgd_run, tiny_run):
    (result,) = train_horizons(sgd_run, steps=[12], device="cpu")
    assert result.val_loss == train(sgd_run, device="cpu").val_loss
    assert step_bytes(tiny_run, CPU) - step_bytes(sgd_run, CPU) == pytest.approx(
        8 * result.parameters, rel=0.05
    )


def test_stacks_are_trained_by_it_too(sgd_run):
    runs = [sgd_run, dataclasses.replace(sgd_run, seed=1)]
    for ours, alone in zip(train_stacked(runs, device="cpu"), map(train, runs), strict=True):
        assert ours.val_loss == pytest.approx(alone.val_loss, rel=1e-5)


def test_schedules_of_single_roles_stack(tiny_run):
    values = {"embedding_boost": "early", "exponential_warmup": 5}
    run = dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, **values))
    runs = [run, dataclasses.replace(run, seed=1)]
    for ours, alone in zip(train_stacked(runs, device="cpu"), map(train, runs), strict=True):
        assert ours.val_loss == pytest.approx(alone.val_loss, rel=1e-5)
    assert train(run).val_loss != train(tiny_run).val_loss


def test_a_name_that_is_not_in_the_table_trains_nothing(tiny_run):
    with pytest.raises(ConfigError, match=r"(?s)'adamv'.*did you mean 'adamw'"):
        train(named(tiny_run, "adamv"), device="cpu")
