"""Memory: what a step takes, and how many runs fit."""

import dataclasses
import gc

import numpy as np
import pytest
import torch

from hpt.data.source import load
from hpt.model.transformer import parameter_count
from hpt.training import stacked
from hpt.training.loop import Training
from hpt.training.memory import available_bytes, step_bytes
from hpt.training.stacked import members_that_fit

CPU = torch.device("cpu")


def changed(run, architecture=None, **values):
    return dataclasses.replace(
        run,
        model=dataclasses.replace(run.model, **(architecture or {})),
        train=dataclasses.replace(run.train, **values),
    )


def test_a_run_takes_more_the_wider_it_is_and_the_more_goes_through_at_once(tiny_run):
    def bytes_of(*architecture, **values):
        return step_bytes(changed(tiny_run, *architecture, **values), CPU)

    whole = bytes_of()
    micro = bytes_of(batch_size=24, micro_batch_size=8)
    assert micro == bytes_of(batch_size=96, micro_batch_size=8)
    weights = 4 * parameter_count(tiny_run.model)
    assert whole > bytes_of(micro_batch_size=2) > 4 * weights
    assert bytes_of({"width": 32}) > whole < bytes_of({"depth": 3})
    assert bytes_of(lr=0.5) == whole


def most_held(call):
    """The largest amount of memory held at once in a call, from torch's own record of
    allocations."""
    # What earlier tests left would be freed inside, and counted.
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return np.cumsum([e.nbytes() for e in sorted(changes, key=lambda e: e.start_ns())]).max()


@pytest.mark.parametrize(("width", "precision"), [(32, "fp32"), (128, "bf16")])
def test_the_backward_pass_takes_what_the_profiler_sees(tiny_run, width, precision):
    run = changed(tiny_run, {"width": width}, precision=precision, batch_size=16)
    training = Training([run], None, CPU)
    ids = training.first_inputs()[:2]
    most = most_held(lambda: training.one_step.gradients(training.groups, *ids))
    weights = 4 * parameter_count(run.model)
    assert step_bytes(run, CPU) == pytest.approx(most + 3 * weights, rel=0.1)


def test_micro_batches_need_less_memory(tiny_run):
    whole, parts = (step_bytes(changed(tiny_run, batch_size=64, micro_batch_size=m), CPU) for m in (None, 8))
    assert parts < 0.5 * whole


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ({}, {}),
        ({}, {"precision": "bf16", "micro_batch_size": 4}),
        ({"norm": "rmsnorm", "activation": "swiglu", "positions": "rotary"}, {}),
        ({"width": 256}, {"batch_size": 1, "clip": 1.0}),
    ],
)
def test_the_estimate_is_what_a_step_holds(tiny_run, architecture, values):
    architecture = {"width": 64, "d_head": 16, "context": 64, **architecture}
    run = changed(tiny_run, architecture, **{"batch_size": 16, **values})
    weights = 4 * parameter_count(run.model)
    data = load(run.data)

    def peak(members):
        runs = [dataclasses.replace(run, seed=seed) for seed in range(members)]
        training = Training(runs, data, CPU)
        batch = training.read(0)
        # Weights and moments were there before.
        return most_held(lambda: training.take_step(0, *batch)) / members + 3 * weights

    assert step_bytes(run, CPU) == pytest.approx(peak(1), rel=0.03)
    assert step_bytes(run, CPU, stacked=True) == pytest.approx(peak(4), rel=0.1)


def test_as_many_fit_as_the_free_memory_holds(tiny_run, monkeypatch):
    assert available_bytes(CPU) > 1e6
    member_bytes = step_bytes(tiny_run, CPU, stacked=True)
    monkeypatch.setattr(stacked, "available_bytes", lambda device: 100 * member_bytes)
    assert members_that_fit(tiny_run, CPU) == 80 and members_that_fit(tiny_run, CPU, workers=4) == 20
    monkeypatch.setattr(stacked, "available_bytes", lambda device: 0)
    assert members_that_fit(tiny_run, CPU) == 1
