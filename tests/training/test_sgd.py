"""SGD with momentum, against torch's own."""

import dataclasses

import pytest
import torch
from plain_training import plain_losses

from hpt.runs.train_config import lr_factor
from hpt.training.loop import train
from hpt.training.stacked import train_stacked
from hpt.training.start import build_model, rate_groups


def by_sgd(run, **values):
    values = {"optimizer": "sgd", "lr": 0.5, **values}
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


def losses_by_torch(run, momentum):
    """The training losses by torch.optim.SGD, weights shrunk before each of its steps."""
    c, model = run.train, build_model(run)
    groups = rate_groups(model, run)
    sgd = torch.optim.SGD([{"params": g["params"], "lr": g["lr"]} for g in groups], momentum=momentum)

    @torch.no_grad()
    def take_step(step):
        for group, rates in zip(sgd.param_groups, groups, strict=True):
            group["lr"] = rates["lr"] * lr_factor(c, step, c.steps)
            for p in group["params"]:
                p *= 1 - group["lr"] * rates["weight_decay"]
        sgd.step()

    return plain_losses(run, model, take_step)


@pytest.mark.parametrize(
    ("rule", "values", "momentum"),
    [
        ("SP+Embd", {}, 0.9),
        ("mup-table3", {"momentum": 0.5, "weight_decay": 0.1}, 0.5),
        ("mup-table8", {"momentum": 0.0}, 0.0),
    ],
)
def test_a_run_is_that_of_torchs_sgd(tiny_run, rule, values, momentum):
    run = by_sgd(dataclasses.replace(tiny_run, parameterization=rule), lr=0.05, **values)
    losses = losses_by_torch(run, momentum)
    assert train(run, device="cpu").train_loss == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0]


def test_a_stack_gives_what_each_run_gives_alone(tiny_run):
    model = dataclasses.replace(tiny_run.model, norm_gain="scalar")
    run = by_sgd(dataclasses.replace(tiny_run, model=model))
    runs = [run, dataclasses.replace(run, seed=1)]
    for ours, alone in zip(train_stacked(runs), map(train, runs), strict=True):
        assert ours.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
