"""How many threads a run gets, and runs of several threads in the pool."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch

from hpt.model.transformer import ModelConfig
from hpt.runs.run_config import run_flops
from hpt.study import executor_local as pool
from hpt.study import threads
from hpt.study.executor_local import Pool
from hpt.study.threads import choose_threads
from hpt.study.timing import Calibration, Timing, shape_of
from hpt.training.memory import SHARE, step_bytes


@pytest.fixture
def grid(tiny_run):
    """One run of width 512 and sixty of width 128, on steps of more than 1e9 FLOPs."""
    model = ModelConfig(depth=2, d_head=32, vocab_size=32, context=64)
    base = dataclasses.replace(
        tiny_run, model=model, train=dataclasses.replace(tiny_run.train, batch_size=32)
    )
    wide, narrow = (
        dataclasses.replace(base, model=dataclasses.replace(model, width=w)) for w in (512, 128)
    )
    assert run_flops(shape_of(narrow)) > threads.FLOPS_TO_SHARE
    return [wide], [dataclasses.replace(narrow, seed=seed) for seed in range(60)]


class Cores:
    """Sixteen cores on which nothing runs."""

    workers, cores, device = 16, 16, "cpu"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Sets how many times faster than with one thread a run is with t threads; returns the calls
    for timings."""
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    asked = []

    def with_speedup(speedup):
        def calibrate(workers, shapes, count, seconds):
            asked.append(count)
            return Calibration(
                {s: Timing(0.0, run_flops(s) / 1e9 / speedup(count), 0.0) for s in shapes}, 10**8, 0
            )

        monkeypatch.setattr(threads, "calibrate", calibrate)
        return asked

    return with_speedup


def threads_by_width(configs):
    return {shape.model.width: t for shape, t in choose_threads(Cores(), configs)[0].items()}


def test_many_runs_take_a_core_each(machine, grid):
    machine(lambda t: t**0.9)
    assert threads_by_width(grid[1]) == {128: 1}


def test_few_runs_share_the_cores(machine, grid):
    machine(lambda t: t**0.7)
    assert threads_by_width(grid[0]) == {512: 16}
    assert threads_by_width(grid[1][:2]) == {128: 8}
    assert threads_by_width(grid[1][:5]) == {
        128: 2
    }  # with four threads, four at a time, they would take two rounds


def test_a_long_run_among_many_short_ones_gets_threads_until_it_is_the_last_no_more(machine, grid):
    machine(lambda t: t**0.7)
    wide, narrow = grid
    found = threads_by_width(wide + narrow)
    seconds = {w: run_flops(c) for w, (c, *_) in ((512, wide), (128, narrow))}
    assert found[128] == 1 and 1 < found[512] <= 16
    assert seconds[512] > 60 * seconds[128] / 16  # alone on one core it would end last


def test_threads_that_do_not_help_are_not_used(machine, grid):
    machine(lambda t: 1.0)
    assert threads_by_width(grid[0]) == {512: 1}


def test_a_machine_that_does_more_with_fewer_runs_gets_fewer(machine, grid):
    machine(lambda t: t**1.3 if t <= 4 else 6.0)  # as where the caches hold four runs
    assert threads_by_width(grid[1]) == {128: 4}


def test_what_does_not_fit_into_memory_runs_with_more_threads(machine, grid, monkeypatch):
    machine(lambda t: t**0.9)
    need = 10**8 + step_bytes(shape_of(grid[1][0]), torch.device("cpu"))
    monkeypatch.setattr(threads, "available_bytes", lambda place: 5 * need / SHARE)
    assert threads_by_width(grid[1]) == {128: 4}


def test_one_machine_always_answers_the_same(machine, grid):
    asked = machine(lambda t: t**0.7)
    first = choose_threads(Cores(), grid[0])
    assert asked == [1, 2, 4, 8, 16] and first[1] == "threads a run, as timed here: 16 at width 512"
    machine(lambda t: 1.0)
    assert choose_threads(Cores(), grid[0]) == first and len(asked) == 5
    resumed = Cores()
    resumed.workers = 1  # as many as runs are left
    assert choose_threads(resumed, grid[0]) == first and len(asked) == 5
    assert threads_by_width(grid[1][:2]) == {128: 1} and len(asked) == 10  # another study


def test_small_steps_are_not_even_timed(machine, tiny_study):
    asked = machine(lambda t: t)
    found, why = choose_threads(Cores(), tiny_study.plan({}))
    assert set(found.values()) == {1} and not asked and why == "one thread a run"


def test_a_run_of_several_threads_waits_for_as_many_cores(tiny_study, monkeypatch):
    runs, lock, now, most, seen = tiny_study.plan({}), threading.Lock(), [0], [0], []

    def job(count, task, configs, *_):
        with lock:
            now[0] += count
            most[0] = max(most[0], now[0])
            seen.append((configs[0].model.width, count))
        time.sleep(0.02)
        with lock:
            now[0] -= count
        return [configs[0]]

    class Store:
        path, load = "", staticmethod(lambda run_id: run_id)

    monkeypatch.setattr(Pool, "_start", lambda self: ThreadPoolExecutor(self.workers))
    monkeypatch.setattr(pool, "_with_threads", job)
    with Pool(Store(), 4, "cpu", stack=False) as workers:
        workers.threads = {shape_of(c): 3 for c in runs if c.model.width == 16}
        assert sorted(map(str, workers.run(runs))) == sorted(map(str, runs))
    assert most[0] == 4 and set(seen) == {(16, 3), (8, 1)}


def test_a_study_trains_with_the_threads_that_were_chosen(
    machine, monkeypatch, tmp_path, tiny_study
):
    machine(lambda t: t**1.3)
    study = tiny_study.select(["SP"], [16])
    alone = study.run(tmp_path / "alone", workers=1, quiet=True)
    monkeypatch.setattr(threads, "FLOPS_TO_SHARE", 0)
    table = study.run(tmp_path / "shared", workers=2, quiet=True)
    assert [
        {r.threads for r in study.results(tmp_path / name)} for name in ("alone", "shared")
    ] == [{1}, {2}]
    pd.testing.assert_series_equal(table["loss"], alone["loss"], rtol=2e-5)
