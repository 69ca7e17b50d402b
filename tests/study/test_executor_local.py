"""The local executor: how many workers, and what becomes of their jobs."""

import concurrent.futures as futures
import functools
import os
import signal
from typing import ClassVar

import pytest
import torch

from hpt.errors import StudyError
from hpt.runs.store import Store
from hpt.study import executor_local
from hpt.study.executor_local import LocalExecutor, choose_workers
from hpt.study.timing import shape_of
from hpt.study.worker import start_worker
from hpt.training.memory import SHARE, step_bytes


@pytest.fixture
def runs(tiny_study):
    return tiny_study.plan({})


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(executor_local, "cores_here", lambda: 4)


@pytest.mark.usefixtures("four_cores")
def test_each_core_gets_a_run_as_far_as_there_are_runs(runs):
    assert choose_workers(runs, "cpu") == (4, "processes 4, cores 4")
    assert choose_workers(runs[:3], "cpu")[0] == 3
    assert choose_workers(runs[:1], "cpu")[0] == 1
    assert choose_workers(runs, "cpu", 7) == (7, "processes 7, as asked")


@pytest.mark.usefixtures("four_cores")
def test_memory_bounds_the_workers(runs, monkeypatch):
    cpu = torch.device("cpu")
    largest = max(step_bytes(shape_of(run), cpu) for run in runs)
    worker = executor_local.WORKER_BYTES + largest
    for fit, workers in ((2.5, 2), (0.5, 1)):
        monkeypatch.setattr(executor_local, "available_bytes", lambda device, fit=fit: fit * worker / SHARE)
        found, why = choose_workers(runs, "cpu")
        assert found == workers and "as many as fit into memory" in why


def test_an_accelerator_gets_one_process(runs, monkeypatch):
    monkeypatch.setattr(executor_local, "pick_device", lambda asked: torch.device("cuda"))
    assert choose_workers(runs)[0] == 1


def test_nothing_missing_starts_nothing(runs):
    with LocalExecutor(None, 2, "cpu") as executor:
        executor.prepare(runs, [])
        assert executor._pool is None and executor.workers == 1


def test_a_worker_has_one_thread_and_results_come_as_they_are_stored(tmp_path, runs):
    store = Store(tmp_path)
    with LocalExecutor(store, 2, "cpu", stack=False) as executor:
        executor.prepare(runs[:3], runs[:3], quiet=True)
        assert executor.workers == 2 and "processes 2, as asked; steps not" in executor.why
        assert executor.submit(torch.get_num_threads).result() == 1
        results = [(result, store.load(result.run_id)) for result in executor.run(runs[:3])]
    assert {result.config for result, _ in results} == set(runs[:3])
    assert all(stored is not None and result.threads == 1 for result, stored in results)


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_keep_dying_end_the_study(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(executor_local, "RESTARTS", 1)
    monkeypatch.setattr(executor_local, "run_job", kill)
    with LocalExecutor(Store(tmp_path), 1, "cpu", stack=False) as executor:
        executor.prepare(runs, runs, quiet=True)
        with pytest.raises(StudyError, match=r"died 2 times, with 12 runs left(.|\n)*finished"):
            list(executor.run(runs))


def die_once(marker):
    """What a worker starts with; the first is killed."""
    try:
        with open(marker, "x"):
            os.kill(os.getpid(), signal.SIGKILL)
    except FileExistsError:
        start_worker()


@pytest.mark.parametrize("ready", [True, False])
def test_a_worker_dying_before_its_first_run_is_replaced(tmp_path, runs, monkeypatch, ready):
    marker = tmp_path / "died"
    with LocalExecutor(Store(tmp_path), 1, "cpu", stack=False) as executor:
        if ready:
            executor.prepare(runs[:1], runs[:1], quiet=True)
            os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)
        else:
            monkeypatch.setattr(executor_local, "start_worker", functools.partial(die_once, str(marker)))
            executor.prepare(runs[:1], runs[:1], quiet=True)
        assert [result.config for result in executor.run(runs[:1])] == runs[:1]
        assert executor._deaths == 1 and marker.exists() != ready


class Makers:
    """A pool that keeps what it is asked for."""

    asked: ClassVar[list] = []

    def __init__(self, count, *_):
        self.count = count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task, configs, device, stacked):
        self.asked.append(
            (self.count, task, {shape_of(c).model.width for c in configs}, len(configs), stacked)
        )
        done = futures.Future()
        done.set_result("")
        return done


@pytest.mark.usefixtures("four_cores")
def test_programs_of_all_stacks_are_made_at_once_each_once(tmp_path, runs, monkeypatch):
    executor = LocalExecutor(Store(tmp_path), 1, "cpu", stack=True)
    executor.compiled = frozenset(map(shape_of, runs))
    jobs, _ = executor.jobs(runs)
    monkeypatch.setattr(futures, "ProcessPoolExecutor", Makers)
    executor._make_programs([*jobs, *jobs], quiet=True)
    assert [asked[2:] for asked in Makers.asked] == [({job[0].model.width}, len(job), True) for job in jobs]
    assert {asked[:2] for asked in Makers.asked} == {(min(4, len(jobs)), executor_local.try_to_compile)}
    executor._make_programs(jobs[:1], quiet=True)
    assert len(Makers.asked) == len(jobs)
