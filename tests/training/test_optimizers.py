"""The seam for optimizers: a second one trains where it can, and is refused by name where it cannot."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from hpt.config import config
from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.runs.train_config import TrainConfig, lr_factor
from hpt.training.compiled import train_compiled, try_to_compile
from hpt.training.horizons import train_horizons
from hpt.training.loop import build_model, rate_groups, train
from hpt.training.memory import step_bytes
from hpt.training.optimizers import OPTIMIZERS, OptimizerKind
from hpt.training.stacked import members_that_fit, train_stacked

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
    """A run by plain SGD, which has no step for stacks."""

    def make(groups, c, device):
        return torch.optim.SGD(groups)

    monkeypatch.setitem(OPTIMIZERS, "sgd", OptimizerKind("adam", make, state_bytes=0))
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
    assert step_bytes(tiny_run, CPU) - step_bytes(sgd_run, CPU) == 8 * result.parameters


def test_stacks_and_compiled_steps_refuse_it_by_name(sgd_run):
    for call in (
        lambda: train_stacked([sgd_run], device="cpu"),
        lambda: members_that_fit(sgd_run, CPU),
        lambda: train_compiled(sgd_run),
    ):
        with pytest.raises(ConfigError, match="'sgd' has no step for stacks and compiled"):
            call()
    assert "'sgd'" in try_to_compile(sgd_run)


def test_schedules_of_single_roles_train_alone_and_in_studies(tiny_study, tmp_path):
    values = {"embedding_boost": "early", "exponential_warmup": 4}
    train_config = dataclasses.replace(tiny_study.base.train, **values)
    base = dataclasses.replace(tiny_study.base, train=train_config)
    with pytest.raises(ConfigError, match="exponential_warmup=4, embedding_boost='early' has no step"):
        train_stacked([base], device="cpu")
    study = dataclasses.replace(tiny_study, base=base, best_seeds=1, extend=0).select(["SP"], [8])
    table = study.run(tmp_path, workers=1, quiet=True)
    rate = table["log2_lr"].iloc[0]
    assert table["loss"].iloc[0] == train(study.run_config("SP", 8, rate)).val_loss


def test_a_name_that_is_not_in_the_table_trains_nothing(tiny_run):
    with pytest.raises(ConfigError, match=r"(?s)'adamv'.*did you mean 'adamw'"):
        train(named(tiny_run, "adamv"), device="cpu")
