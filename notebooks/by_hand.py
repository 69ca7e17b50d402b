"""A run of a study made by hand: hpt's first weights, batches and schedule, the loop of minimal.py, and
groups of the reader's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from minimal import loss_of, lr_factor, train
from torch import nn

import hpt
from hpt.data import load
from hpt.device import pick_device


def loss_by_hand(
    study: hpt.Study,
    width: int,
    rule: str,
    groups_of: Callable[[nn.Module], list[dict]],
    more: Callable[[int], float] = lambda step: 1.0,
    steps: int | None = None,
) -> float:
    """Validation loss, nats a token, of a model that is trained as the study's run of seed 0 would be.

    Parameters
    ----------
    rule: of the first weights, such as "SP".
    groups_of: model → optimizer groups, at the peak of the schedule.
    more: step → what every rate is multiplied by beside the schedule.
    steps: how many; by default the study's.
    """
    settings = study.base.train
    context = study.base.model.context
    data = load(study.base.data)
    device = pick_device("auto")
    model = hpt.Transformer(dataclasses.replace(study.base.model, width=width))
    hpt.init_weights(model, rule, generator=torch.Generator().manual_seed(0))
    model.to(device)

    def batch(step):
        return [ids.to(device) for ids in data.batch(0, step, settings.batch_size, context)]

    def factor(step, steps):
        warmup = settings.warmup_steps / settings.steps
        return more(step) * lr_factor(step, steps, warmup, settings.decay_fraction)

    train(model, groups_of(model), batch, steps or settings.steps, factor)
    held_out = data.validation(settings.validation_sequences, context)
    with torch.no_grad():
        return loss_of(model, *(ids.to(device) for ids in held_out)).item()
