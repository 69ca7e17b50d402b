"""How long runs take: a few steps of each shape, timed by the code that trains."""

import concurrent.futures
import dataclasses
import math
import types

import psutil
import pytest

import hpt.study.timing
from hpt.runs.run_config import run_flops
from hpt.study.executor import Executor
from hpt.study.timing import Calibration, calibrate, shape_of, shapes_of
from hpt.training.loop import Training


class Here(Executor):
    """One worker: this process."""

    def __init__(self, stack=False):
        super().__init__(None, 1, "cpu", stack)

    def submit(self, task, *args):
        done = concurrent.futures.Future()
        done.set_result(task(*args))
        return done


def wider(run, width):
    return dataclasses.replace(run, model=dataclasses.replace(run.model, width=width))


def changed(run, **values):
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


def test_a_shape_is_all_that_costs_time(tiny_run):
    alike = [
        tiny_run,
        dataclasses.replace(tiny_run, seed=3, parameterization="mup"),
        changed(tiny_run, lr=0.5),
    ]
    assert len(set(map(shape_of, alike))) == 1
    others = [wider(tiny_run, 32), changed(tiny_run, batch_size=2), changed(tiny_run, clip=1.0)]
    assert len(set(map(shape_of, [tiny_run, *others]))) == 4


def test_the_estimate_grows_with_steps_and_width(tiny_run):
    wide = wider(tiny_run, 256)
    found = calibrate(Here(), [tiny_run, wide])
    assert 0 < found.run_seconds(tiny_run) < found.run_seconds(wide)
    timing = found.timings[shape_of(wide)]
    more = found.run_seconds(changed(wide, steps=112)) - found.run_seconds(wide)
    assert more == pytest.approx(100 * timing.step_seconds)
    assert found.base_bytes > 5e7 and found.free_bytes > 0


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands, but for 0.03 s at each training step."""
    now = types.SimpleNamespace(seconds=0.0)
    take_step = Training.take_step

    def slow(*args):
        now.seconds += 0.03
        return take_step(*args)

    monkeypatch.setattr(Training, "take_step", slow)
    monkeypatch.setattr(hpt.study.timing.time, "perf_counter", lambda: now.seconds)
    return now


@pytest.mark.usefixtures("clock")
def test_calibration_times_the_code_that_trains(tiny_run):
    (timing,) = calibrate(Here(), [tiny_run]).timings.values()
    assert timing.step_seconds == pytest.approx(0.03)
    assert timing.setup_seconds == timing.sequence_seconds == 0


def test_large_shapes_are_tried_on_fewer_sequences_or_not_at_all(tiny_run, monkeypatch):
    monkeypatch.setattr("hpt.study.timing.SECONDS_A_SHAPE", 0.0)
    flops = run_flops(shape_of(tiny_run))
    monkeypatch.setitem(hpt.study.timing.MOST_STEP_FLOPS, "cpu", flops / 2)  # two of its four sequences
    large = wider(tiny_run, 128)
    found = calibrate(Here(), [tiny_run, large])
    assert list(found.timings) == [shape_of(tiny_run)]
    step = found.timings[shape_of(tiny_run)].step_seconds
    assert found.run_seconds(large) == pytest.approx(step * run_flops(large) / flops)
    monkeypatch.setitem(hpt.study.timing.MOST_STEP_FLOPS, "cpu", flops / 9)
    assert math.isnan(calibrate(Here(), [tiny_run]).run_seconds(tiny_run))


def test_what_does_not_fit_into_memory_is_not_tried(tiny_run, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000))
    found = calibrate(Here(), [tiny_run])
    assert math.isnan(found.run_seconds(tiny_run)) and found.free_bytes == 10_000
    assert found.memory_bytes(tiny_run) > found.base_bytes


def test_by_default_nothing_is_known(tiny_run):
    assert math.isnan(Calibration().run_seconds(tiny_run))
    assert math.isnan(Calibration().memory_bytes(tiny_run))
    assert shapes_of([wider(tiny_run, 32), tiny_run, changed(tiny_run, lr=0.5)]) == [
        shape_of(tiny_run),
        shape_of(wider(tiny_run, 32)),
    ]


@pytest.mark.usefixtures("clock")
def test_what_will_train_as_a_stack_is_timed_as_one(tiny_run, monkeypatch):
    """Each member's share of the time, by as many members as the study stacks."""
    sizes = []

    def recorded(configs, *place):
        sizes.append(len(configs))
        return Training(configs, *place)

    monkeypatch.setattr(hpt.study.timing, "Training", recorded)
    runs = [dataclasses.replace(tiny_run, seed=seed) for seed in range(3)]
    (timing,) = calibrate(Here(stack=True), runs).timings.values()
    assert set(sizes) == {3} and timing.step_seconds == pytest.approx(0.01)
    calibrate(Here(stack=False), runs)
    assert set(sizes) == {1, 3}
