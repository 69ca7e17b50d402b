"""Memory: what a run takes, and how many fit."""

import dataclasses

import numpy as np
import pytest
import torch

from hpt.data.source import load
from hpt.model.transformer import parameter_count
from hpt.training.memory import available_bytes, member_bytes, members_that_fit
from hpt.training.stacked import Stack

CPU = torch.device("cpu")


def changed(run, architecture=None, **values):
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, **(architecture or {})),
        train=dataclasses.replace(run.train, **values),
    )


def test_a_run_takes_more_the_wider_it_is_and_the_more_goes_through_at_once(tiny_run):
    whole = member_bytes(tiny_run)
    assert member_bytes(changed(tiny_run, batch_size=8)) == member_bytes(
        changed(tiny_run, batch_size=99, micro_batch_size=8)
    )
    weights = 4 * parameter_count(tiny_run.model)
    assert whole > member_bytes(changed(tiny_run, micro_batch_size=2)) > 6 * weights
    assert (
        member_bytes(changed(tiny_run, {"width": 32}))
        > whole
        < member_bytes(changed(tiny_run, {"depth": 3}))
    )
    assert member_bytes(changed(tiny_run, lr=0.5)) == whole


@pytest.mark.parametrize(
    "architecture", [{}, {"norm": "rmsnorm", "activation": "swiglu", "positions": "rotary"}]
)
def test_the_estimate_covers_what_a_stack_holds(tiny_run, architecture):
    """The largest amount of memory held at once in a step, from torch's own record of
    allocations."""
    run = changed(
        tiny_run, {"width": 64, "d_head": 16, "context": 64, **architecture}, batch_size=16
    )
    stack = Stack([dataclasses.replace(run, seed=seed) for seed in range(4)], load(run.data), CPU)
    inputs = (*stack._read(0), stack.scalars_Sx3[0])
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        stack._step(*inputs)
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = np.cumsum([e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())])
    peak = held.max() / 4 + 3 * 4 * parameter_count(
        run.model
    )  # weights and moments were there before
    assert peak < member_bytes(run) < 2 * peak


def test_as_many_fit_as_the_free_memory_holds(tiny_run, monkeypatch):
    assert available_bytes(CPU) > 1e6
    monkeypatch.setattr(
        "hpt.training.memory.available_bytes", lambda place: 100 * member_bytes(tiny_run)
    )
    assert (
        members_that_fit(tiny_run, CPU) == 80 and members_that_fit(tiny_run, CPU, workers=4) == 20
    )
    monkeypatch.setattr("hpt.training.memory.available_bytes", lambda place: 0)
    assert members_that_fit(tiny_run, CPU) == 1
