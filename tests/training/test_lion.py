"""Lion, against its formulas."""

import dataclasses

import pytest
import torch
from plain_training import plain_losses

from hpt.runs.train_config import lr_factor
from hpt.training.loop import train
from hpt.training.stacked import train_stacked
from hpt.training.start import build_model, rate_groups


def by_lion(run, **values):
    values = {"optimizer": "lion", "lr": 2.0**-9, "beta1": 0.95, "beta2": 0.98, **values}
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


@pytest.mark.parametrize("weight_decay", [0.0, 2.0])
def test_a_run_is_that_of_the_papers_algorithm(tiny_run, weight_decay):
    """Chen et al. 2023, algorithm 2: u = sign(β₁m + (1 − β₁)g), w ← w − η(u + λw), m ← β₂m + (1 − β₂)g."""
    run = by_lion(dataclasses.replace(tiny_run, parameterization="SP+Embd"), weight_decay=weight_decay)
    c, model = run.train, build_model(run)
    groups = rate_groups(model, run)
    m = {p: torch.zeros_like(p) for p in model.parameters()}

    @torch.no_grad()
    def take_step(step):
        for group in groups:
            eta = group["lr"] * lr_factor(c, step, c.steps)
            for p in group["params"]:
                u = (0.95 * m[p] + 0.05 * p.grad).sign()
                p -= eta * (u + group["weight_decay"] * p)
                m[p] = 0.98 * m[p] + 0.02 * p.grad

    losses = plain_losses(run, model, take_step)
    result = train(run, device="cpu")
    # A sign turns where two numbers differ in their last digits.
    assert result.train_loss == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0] and {g["lr"] for g in groups} == {2.0**-9, 2.0**-5}


def test_a_stack_gives_what_each_run_gives_alone(tiny_run):
    model = dataclasses.replace(tiny_run.model, norm_gain="scalar")
    run = by_lion(dataclasses.replace(tiny_run, model=model))
    runs = [run, dataclasses.replace(run, seed=1)]
    for ours, alone in zip(train_stacked(runs), map(train, runs), strict=True):
        assert ours.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
