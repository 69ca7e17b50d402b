"""The local executor: runs in a pool of worker processes on this machine."""

from __future__ import annotations

import concurrent.futures as futures
import ctypes
import multiprocessing
import os
import platform
import threading
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import torch

from hpt.device import cores_here, pick_device
from hpt.errors import CompileWarning, StudyError
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, run_flops
from hpt.runs.store import Store
from hpt.study.jobs import plan_jobs, run_job
from hpt.study.timing import shape_of, threads_of
from hpt.training.compiled import try_to_compile

#: Runs that a worker trains together.
Job = tuple[RunConfig, ...]

#: How often the pool is started anew after a worker was killed.
RESTARTS = 3
#: Programs that are on disk are there by then.
SECONDS_TO_LOAD = 10


def choose_workers(
    runs: int, device: str = "auto", asked: int | None = None
) -> tuple[int, int, str]:
    """How many worker processes serve ``runs`` runs best here, how many cores they have for their
    threads, and why."""
    if asked:
        return asked, asked, f"processes {asked}, as asked"
    if pick_device(device).type != "cpu":
        return 1, 1, "one process keeps an accelerator busy"
    workers, cores = max(1, min(cores_here(), runs)), cores_here()
    return workers, cores, f"processes {workers}, cores {cores}"


class Pool:
    """Worker processes that train runs into a store; use it in a ``with`` block.

    Parameters
    ----------
    store: where each worker puts its results; None where no run is to be trained.
    workers: how many processes; by default as many as serve ``runs`` runs best.
    device: as in :func:`hpt.train`.
    stack: as in :func:`hpt.study.jobs.plan_jobs`.
    runs: how many there are.

    Attributes
    ----------
    why: why so many workers.
    cores: that the workers share.
    threads: of a run of each shape, one where a shape is not named; runs start as their threads
        find free cores.
    compiled: shapes whose steps are compiled, once :meth:`compile` was called.
    """

    def __init__(
        self,
        store: Store | None,
        workers: int | None = None,
        device: str = "auto",
        stack: bool | None = None,
        runs: int = 1,
    ):
        self.store, self.device, self.stack = store, device, stack
        self.workers, self.cores, self.why = choose_workers(runs, device, workers)
        self.threads: dict[RunConfig, int] = {}
        self.compiled: frozenset[RunConfig] = frozenset()
        self._restarts_left = RESTARTS
        self._pool = self._start()

    def _start(self) -> futures.ProcessPoolExecutor:
        context = multiprocessing.get_context(
            "spawn"
        )  # a fork would inherit the parent's thread pools
        return futures.ProcessPoolExecutor(self.workers, context, _start_worker)

    def __enter__(self) -> Pool:
        for _ in range(self.workers):
            self._pool.submit(os.getpid)  # one worker starts for each, while this process goes on
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()  # runs in hand repeat the next time; waiting for them would block Ctrl-C
        self._pool.shutdown(cancel_futures=True)

    def submit(self, task: Callable, *args) -> futures.Future:
        """Have a worker do ``task(*args)``."""
        return self._pool.submit(task, *args)

    def compile(self, shapes: Collection[RunConfig], quiet: bool = False) -> None:
        """Have the steps of these shapes compiled where they are not on disk; one that fails runs
        as it is.

        Raises
        ------
        StudyError: a worker died.
        """
        tasks = {
            self._pool.submit(_with_threads, threads_of(self, shape), try_to_compile, shape): shape
            for shape in sorted(shapes, key=run_flops, reverse=True)
        }
        waiting = futures.wait(tasks, timeout=SECONDS_TO_LOAD).not_done
        if waiting and not quiet:
            print(
                f"compiling the training steps of {len(waiting)} shapes, once; a core takes about 20 s for each"
            )
        try:
            failures = {shape: task.result() for task, shape in tasks.items()}
        except BrokenProcessPool:
            raise StudyError(
                "a worker died while steps were compiled.",
                "the machine ran out of memory",
                "fewer workers, or compiled=False",
            ) from None
        for shape, failure in failures.items():
            if failure:
                warnings.warn(
                    f"the step at width {shape.model.width} could not be compiled and runs as it is: "
                    f"{failure}",
                    CompileWarning,
                    stacklevel=2,
                )
        self.compiled = frozenset(shape for shape, failure in failures.items() if not failure)

    def plan(self, configs: Sequence[RunConfig]) -> tuple[list[Job], str]:
        """The jobs that :meth:`run` makes of runs, and the reason in words."""
        return plan_jobs(
            configs, self.device, workers=self.workers, stack=self.stack, compiled=self.compiled
        )

    def run(self, configs: Sequence[RunConfig]) -> Iterator[RunResult]:
        """Train every configuration and yield each result as it is stored.

        A worker that is killed (out of memory, say) is replaced and its job, a run or a stack of
        runs, repeated.

        Raises
        ------
        StudyError: when workers keep dying; whatever was stored stays.
        """
        jobs, _ = self.plan(configs)
        waiting, running = deque(jobs), {}
        while waiting or running:
            run_ids = []
            try:
                self._start_jobs(waiting, running)
                done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                run_ids = [run_id for task in done for run_id in task.result()]
                for task in done:
                    del running[task]
                self._start_jobs(
                    waiting, running
                )  # before whoever takes the results lets a core idle
            except BrokenProcessPool:
                self._pool.shutdown(cancel_futures=True)
                waiting.extendleft(running.values())
                running.clear()
                if not self._restarts_left:
                    raise StudyError(
                        f"worker processes died {RESTARTS + 1} times, with {sum(map(len, waiting))} runs left.",
                        "the machine ran out of memory, or something kills them",
                        f"the same command with fewer workers than {self.workers}; finished runs are kept",
                    ) from None
                self._restarts_left -= 1
                self._pool = self._start()
            yield from map(self.store.load, run_ids)

    def _start_jobs(self, waiting: deque[Job], running: dict[futures.Future, Job]) -> None:
        """Start jobs in their order as long as there are cores for the next."""
        while waiting:
            shape = shape_of(waiting[0][0])
            threads, busy = (
                threads_of(self, shape),
                sum(threads_of(self, shape_of(job[0])) for job in running.values()),
            )
            if busy + threads > self.cores:
                return
            task = self._pool.submit(
                _with_threads,
                threads,
                run_job,
                waiting[0],
                str(self.store.path),
                self.device,
                self.stack,
                shape in self.compiled,
            )
            running[task] = waiting.popleft()


def _start_worker() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _with_threads(threads: int, task: Callable, *args):
    torch.set_num_threads(threads)
    return task(*args)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of large tensors; giving it back each step costs small models a
    third of their time."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
            libc.mallopt(parameter, 1 << 30)


def _die_with_parent() -> None:
    """A killed parent cannot tell its workers; they would wait for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)
