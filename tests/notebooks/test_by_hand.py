"""Runs by hand: with the library's groups they come out where the library's runs do."""

import dataclasses

import pytest
from by_hand import loss_by_hand

from hpt.parameterization.groups import param_groups
from hpt.training.loop import train


def test_a_run_by_hand_lands_on_the_stored_basin(tiny_study):
    base = tiny_study.base
    settings = dataclasses.replace(base.train, steps=20, warmup_steps=4, decay_fraction=0.2)
    study = dataclasses.replace(tiny_study, base=dataclasses.replace(base, train=settings))
    run = dataclasses.replace(study.base, parameterization="SP+Embd")

    def groups_of(model):
        return param_groups(model, "SP+Embd", lr=settings.lr)

    loss = loss_by_hand(study, run.model.width, "SP+Embd", groups_of)
    assert loss == pytest.approx(train(run).val_loss, rel=1e-5)
    assert loss_by_hand(study, run.model.width, "SP+Embd", groups_of, lambda step: 0.0) > loss + 0.01
    shorter = dataclasses.replace(run, train=dataclasses.replace(settings, steps=10, warmup_steps=2))
    loss = loss_by_hand(study, run.model.width, "SP+Embd", groups_of, steps=10)
    assert loss == pytest.approx(train(shorter).val_loss, rel=1e-5)
