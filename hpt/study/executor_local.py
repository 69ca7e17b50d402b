"""The local executor: runs in a pool of worker processes on this machine."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import dataclasses
import multiprocessing
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

from hpt.data.source import load
from hpt.device import cores_here, pick_device
from hpt.errors import CompileWarning, ConfigError, StudyError
from hpt.runs.run_config import RunConfig
from hpt.study.executor import Executor
from hpt.study.jobs import NOT_COMPILED, run_job, shapes_to_compile
from hpt.study.timing import calibrate, results_of, shape_of, shapes_of
from hpt.study.worker import deaf_children, orderly_end, start_worker
from hpt.training.compiled import try_to_compile
from hpt.training.memory import SHARE, available_bytes, step_bytes
from hpt.training.stacked import stack_key
from hpt.training.start import check_start

#: How often the pool is started anew after a worker was killed.
RESTARTS = 3
#: Programs that are on disk are there by then.
SECONDS_TO_LOAD = 10
#: Memory of a worker beside its run's tensors: Python, torch and what they load. An estimate.
WORKER_BYTES = 4e8


def choose_workers(
    configs: Sequence[RunConfig], device: str = "auto", asked: int | None = None
) -> tuple[int, str]:
    """How many worker processes train these runs, and why.

    On a CPU each core gets a run of its own, as far as the workers fit into memory.
    """
    if asked:
        return asked, f"processes {asked}, as asked"
    picked = pick_device(device)
    if picked.type != "cpu":
        return 1, "one process keeps an accelerator busy"
    cores = cores_here()
    workers = min(cores, len(configs))
    largest = max(step_bytes(shape, picked) for shape in shapes_of(configs))
    fit = max(1, int(SHARE * available_bytes(picked) / (WORKER_BYTES + largest)))
    if fit < workers:
        return fit, f"processes {fit}, cores {cores}: as many as fit into memory"
    return workers, f"processes {workers}, cores {cores}"


class LocalExecutor(Executor):
    """Worker processes of one thread each, as many as :func:`choose_workers` says."""

    _pool = None
    _deaths = 0
    _ending = contextlib.nullcontext()

    def __post_init__(self):
        if self.address is not None or self.gpus_per_job is not None:
            given = f"address={self.address!r}, gpus_per_job={self.gpus_per_job!r}"
            raise ConfigError(f"{given}: only a cluster has these.", remedy='executor="ray"')

    def __enter__(self):
        self._ending = orderly_end()
        self._ending.__enter__()
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self._end_workers(now=kind is not None)
        finally:
            self._ending.__exit__(None, None, None)

    def _end_workers(self, now):
        if self._pool is None:
            return
        if now:
            # Runs in hand repeat the next time; waiting for them would block Ctrl-C.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def check(self, configs):
        """Refuse runs whose text is too short or whose sizes exceed the memory."""
        for shape in shapes_of(configs):
            validation = max(run.train.validation_sequences for run in configs if shape_of(run) == shape)
            train = dataclasses.replace(shape.train, validation_sequences=validation)
            run = dataclasses.replace(shape, train=train)
            check_start(run, load(run.data), pick_device(self.device))

    def require_gpu(self):
        """Whether this machine's device is a CUDA GPU."""
        return pick_device(self.device).type == "cuda"

    def prepare(self, grid, missing, quiet=False):
        """Start as many workers as serve the missing runs best, and have the steps compiled where
        that pays.

        Raises
        ------
        ConfigError: compiled steps are wanted and cannot be had.
        StudyError: a worker died.
        """
        if not missing:
            return
        self.workers, why_workers = choose_workers(missing, self.device, self.asked)
        # They import torch while this process times shapes.
        self._start()
        # What a program would save a stack on a CPU nobody has timed.
        on_cpu = pick_device(self.device).type == "cpu"
        wanted = False if self.stack and self.compile is None and on_cpu else self.compile
        shapes, why_compiled = shapes_to_compile(grid, self.device, wanted)
        self._repeated(self._compile, shapes, quiet)
        jobs, why_jobs = self.jobs(missing)
        self._make_programs(jobs, quiet)
        self.why = f"{why_workers}; {why_compiled}; {why_jobs}"

    def _start(self):
        # A fork would inherit the parent's thread pools.
        context = multiprocessing.get_context("spawn")
        self._pool = futures.ProcessPoolExecutor(self.workers, context, start_worker)
        # One worker starts for each, while this process goes on.
        # If one dies at once, whoever asks for something next replaces it.
        with contextlib.suppress(BrokenProcessPool):
            for _ in range(self.workers):
                self.submit(os.getpid)

    def submit(self, task: Callable, *args) -> futures.Future:
        """Have a worker do ``task(*args)``."""
        with deaf_children():
            return self._pool.submit(task, *args)

    def _compile(self, shapes, quiet):
        """Have the steps of these shapes compiled where they are not on disk; one that fails runs
        as it is."""
        shapes = shapes_of(shapes)[::-1]
        if self.stack or pick_device(self.device).type == "cuda":
            # Those of stacks hang on how many train at once, see _make_programs.
            self.compiled = frozenset(shapes)
            return
        tasks = [self.submit(try_to_compile, [shape], self.device) for shape in shapes]
        waiting = futures.wait(tasks, timeout=SECONDS_TO_LOAD).not_done
        if waiting and not quiet:
            print(f"compiling the steps of {len(waiting)} shapes, once; about 20 s each on a core")
        failures = dict(zip(shapes, results_of(tasks, "compiled", "compiled=False"), strict=True))
        self.compiled = frozenset(shape for shape in shapes if not failures[shape])
        for shape in failures.keys() - self.compiled:
            text = NOT_COMPILED.format(shape.model.width, failures[shape])
            warnings.warn(text, CompileWarning, stacklevel=2)

    def _make_programs(self, jobs, quiet):
        """Have the programs of stacks ready on disk: processes of their own make them, one a core, while
        there may be one alone that trains. What fails here, or of a size that is not known yet, is made with
        the first such job."""
        stacked = [job for job in jobs if shape_of(job[0]) in self.compiled and self.is_stacked(job)]
        programs = list(dict.fromkeys((stack_key(job[0]), len(job)) for job in stacked))
        if len(programs) < 2:
            return
        if not quiet:
            print(f"compiling the steps of {len(programs)} stacks where they are not on disk, once")
        context = multiprocessing.get_context("spawn")
        makers = min(cores_here(), len(programs))
        with (
            futures.ProcessPoolExecutor(makers, context, start_worker) as pool,
            deaf_children(),
            contextlib.suppress(BrokenProcessPool),
        ):
            tasks = [pool.submit(try_to_compile, [key] * count, self.device, True) for key, count in programs]
            futures.wait(tasks)

    def time(self, configs):
        """How long such runs take while all workers are busy."""
        return self._repeated(calibrate, self, configs)

    def _repeated(self, ask, *args):
        """What ``ask(*args)`` gives; a worker that dies meanwhile is replaced.  Raises StudyError."""
        while True:
            try:
                return ask(*args)
            except (BrokenProcessPool, StudyError) as error:
                told = error if isinstance(error, StudyError) else None
                self._restart("none stored", told)

    def run(self, configs):
        """Train every configuration and yield each result as it is stored.

        A worker that is killed (out of memory, say) is replaced and its job, a run or a stack of
        runs, repeated.

        Raises
        ------
        StudyError: when workers keep dying; whatever was stored stays.
        """
        left, _ = self.jobs(configs)
        while left:
            try:
                tasks = {self._submit(job): job for job in left}
                for task in futures.as_completed(tasks):
                    run_ids = task.result()
                    left.remove(tasks[task])
                    yield from map(self.store.load, run_ids)
            except BrokenProcessPool:
                self._restart(f"{sum(map(len, left))} runs left")

    def _submit(self, job):
        compiled = shape_of(job[0]) in self.compiled
        how = self.is_stacked(job), compiled
        return self.submit(run_job, job, str(self.store.path), self.device, *how)

    def _restart(self, state, told=None):
        """New workers in place of dead ones, unless they died too often: then ``told``, or what is so far."""
        self._pool.shutdown(cancel_futures=True)
        self._deaths += 1
        if self._deaths > RESTARTS:
            raise told or StudyError(
                f"worker processes died {self._deaths} times, with {state}.",
                "the machine ran out of memory, or something kills them",
                f"the same command with fewer workers than {self.workers}; finished runs are kept",
            ) from None
        self._start()
