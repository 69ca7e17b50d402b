"""How long a run takes here: a few steps of each shape, timed in the workers while all of them are
busy."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch

from hpt.data.source import load
from hpt.data.token_cache import TextSource
from hpt.device import pick_device
from hpt.errors import StudyError
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.runs.store import Store
from hpt.training.loop import Training
from hpt.training.memory import step_bytes

#: Seconds of steps that are timed, over all shapes and for one.
SECONDS, SECONDS_A_SHAPE = 1.2, 0.3
#: A step with more FLOPs is timed on fewer sequences; a shape where one sequence has more is not tried.
MOST_STEP_FLOPS = {"cpu": 3e10, "cuda": 3e13, "mps": 1e12}
#: Steps before the timing: kernels are chosen and memory is fetched in them.
COLD_STEPS = 2
MOST_STEPS = 2000
#: Steps between two looks at the clock, at most.
MOST_AT_ONCE = 25
#: Seconds that a worker waits for the others to start.
PATIENCE = 60


class Timing(NamedTuple):
    """Seconds of one shape's run in a worker: its set-up with its record's writing, a step, a
    validation sequence; of a stack, each member's share of them."""

    setup_seconds: float
    step_seconds: float
    sequence_seconds: float


@dataclass(frozen=True)
class Calibration:
    """What a machine's workers take for runs of some shapes; by default nothing is known.

    Attributes
    ----------
    timings: by shape, see :func:`shape_of`; empty where every shape is too large to try.
    tensor_bytes: at the fullest moment of a training step, by shape.
    base_bytes: memory that a worker takes beside its run's tensors; 0 on a GPU.
    free_bytes: memory that was free before the workers started; on a GPU, once they had.
    """

    timings: dict[RunConfig, Timing] = field(default_factory=dict)
    tensor_bytes: dict[RunConfig, int] = field(default_factory=dict)
    base_bytes: float = math.nan
    free_bytes: float = math.nan

    def run_seconds(self, config: RunConfig) -> float:
        """Seconds of a run in a worker, while the others are busy too; nan where nothing was timed.

        A shape that was too large to try is taken to need as long for a FLOP as the largest that
        was tried.
        """
        if not self.timings:
            return math.nan
        timing = self.timings.get(shape_of(config))
        if timing is None:
            largest = max(self.timings, key=run_flops)
            return run_flops(config) * self.timings[largest].step_seconds / run_flops(largest)
        steps = run_steps(config) * timing.step_seconds
        validation = config.train.validation_sequences * timing.sequence_seconds
        return timing.setup_seconds + steps + validation

    def memory_bytes(self, config: RunConfig) -> float:
        """Memory of a worker that trains such a run; nan where nobody can tell."""
        return self.base_bytes + self.tensor_bytes.get(shape_of(config), 0)


def shape_of(config: RunConfig) -> RunConfig:
    """The same run with all replaced that costs no time: one step of it stands for all steps of
    many runs."""
    train = dataclasses.replace(
        config.train,
        lr=1e-6,
        weight_decay=0.0,
        dose=None,
        steps=1,
        warmup_steps=0,
        exponential_warmup=0,
        diagnostics=0,
        tokens_per_parameter=None,
        loss_bound=1e30,
        validation_sequences=1,
    )
    return dataclasses.replace(config, seed=0, parameterization=Parameterization(), train=train)


def shapes_of(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The shapes of runs, each once, the smallest first."""
    return sorted(dict.fromkeys(map(shape_of, configs)), key=run_flops)


def calibrate(executor, configs: Sequence[RunConfig]) -> Calibration:
    """Time runs like these in all workers at once: a step is slower while the other cores are busy.

    The ``executor`` is a :class:`hpt.study.executor_local.LocalExecutor`.

    Shapes that do not fit into the free memory are not tried, nor those whose steps take too long.

    Raises
    ------
    StudyError: a worker died.
    """
    device = pick_device(executor.device)
    free = psutil.virtual_memory().available
    tensor_bytes = {shape: step_bytes(shape, device) for shape in shapes_of(configs)}
    workers = executor.workers
    tried = [
        shape
        for shape, size in tensor_bytes.items()
        if workers * size < free and run_flops(shape) / shape.train.batch_size <= MOST_STEP_FLOPS[device.type]
    ]
    with tempfile.TemporaryDirectory() as meeting:
        jobs, _ = executor.jobs(configs)
        members = {shape_of(job[0]): len(job) for job in sorted(jobs, key=len)}
        task = _measure, tried, executor.device, meeting, workers, executor.compiled, members
        tasks = [executor.submit(*task) for _ in range(workers)]
        found = results_of(tasks, "tried", "a smaller micro_batch_size")
    timings, base_bytes, free_on_gpu = zip(*found, strict=True)
    # On a GPU the largest shapes may lack, in some workers more than in others.
    timing_of = {
        shape: Timing(*np.mean(of_shape, axis=0)) for shape, *of_shape in zip(tried, *timings, strict=False)
    }
    if device.type == "cuda":
        free = min(free_on_gpu)
    return Calibration(timing_of, tensor_bytes, max(base_bytes), free)


def results_of(tasks: Sequence[Future], done: str, remedy: str) -> list:
    """What workers made of tasks that have to do with steps.

    Raises
    ------
    StudyError: a worker died.
    """
    try:
        return [task.result() for task in tasks]
    except BrokenProcessPool:
        raise StudyError(
            f"a worker died while steps were {done}.",
            "the machine ran out of memory",
            f"fewer workers, or {remedy}",
        ) from None


def _measure(shapes, device, meeting, workers, compiled, members):
    """In a worker: timings of the shapes, memory that the process takes by itself, and what a GPU
    has free then."""
    picked = pick_device(device)
    on_gpu = picked.type == "cuda"
    free = torch.cuda.mem_get_info(picked)[0] if on_gpu else 0
    store = f"{meeting}/{os.getpid()}"
    # The first run of each kind also loads what torch loads late.
    smallest = {shape in compiled: shape for shape in reversed(shapes)}
    for is_compiled, shape in smallest.items():
        _time(shape, device, 0.0, store, is_compiled, members[shape])
    # Unshared pages alone.
    base = 0 if on_gpu else psutil.Process().memory_full_info().uss
    _meet(Path(meeting), workers)
    seconds = min(SECONDS_A_SHAPE, SECONDS / max(len(shapes), 1))
    timings = []
    with contextlib.suppress(torch.OutOfMemoryError):
        # A GPU's; what is larger will not fit either.
        for shape in shapes:
            timings.append(_time(shape, device, seconds, store, shape in compiled, members[shape]))
    return timings, base, free


def _meet(folder, workers):
    """Wait until so many processes are here."""
    (folder / f"{os.getpid()}.here").touch()
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("*.here"))) < workers and time.monotonic() < end:
        time.sleep(0.002)


def _time(shape, device, seconds, store, compiled, members):
    """Set a run up, or a stack of so many, take steps for so many seconds and validate, by the code that
    trains."""
    batch = shape.train.batch_size
    most_flops = MOST_STEP_FLOPS[pick_device(device).type] / members
    tried = int(np.clip(batch * most_flops / run_flops(shape), 1, batch))
    sizes = {"steps": MOST_STEPS, "batch_size": tried, "validation_sequences": tried}
    config = dataclasses.replace(shape, train=dataclasses.replace(shape.train, **sizes))
    data = _stand_in(config)
    # A program's batch is fixed.
    how = [config] * members, data, pick_device(device), compiled and tried == batch
    if how[-1]:
        # Loads the program, once in a process.
        Training(*how)
    setup, run = _timed(Training, *how)
    step = _seconds_a_step(run, seconds)
    if tried < batch and members > 1:
        step *= batch / tried
    elif tried < batch:
        # The optimizer's share does not grow with the batch.
        optimizer = min(_timed(_optimizer_step, run)[0], step)
        step = optimizer + (step - optimizer) * batch / tried
    validation, (result, *_) = _timed(run.results)
    saving, _ = _timed(Store(store).save, result)
    return Timing(setup / members + saving, step / members, validation / tried / members)


def _timed(function, *args):
    """Seconds that a call takes, and what it gives."""
    start = time.perf_counter()
    given = function(*args)
    return time.perf_counter() - start, given


def _seconds_a_step(run, seconds):
    # Each call waits for the device at its end.
    run.advance(COLD_STEPS)
    spent = 0.0
    chunk = 1
    while run.step == COLD_STEPS or (run.step < run.steps and spent < seconds):
        spent += _timed(run.advance, min(run.step + chunk, run.steps))[0]
        chunk = min(2 * chunk, MOST_AT_ONCE)
    return spent / (run.step - COLD_STEPS)


def _optimizer_step(run):
    for group, scalars in zip(run.groups, run.scalars[0], strict=True):
        grads = [torch.zeros_like(parameter) for parameter in group.parameters]
        run.one_step.update(group, grads, run.config.train, scalars)
    # Waits for the device.
    run.groups[0].weight[0, 0].item()


def _stand_in(config):
    """Tokens to take steps on: the synthetic source itself; for text, random ones in memory."""
    if config.data.source == "synthetic":
        return load(config.data)
    vocabulary = config.data.vocab_size
    size = max(1_000_000, 4 * (config.model.context + 1) * config.train.batch_size)
    ids = np.random.default_rng(0).integers(vocabulary, size=size, dtype=np.uint32)
    return TextSource(
        vocab_size=vocabulary,
        fingerprint="none",
        facts={},
        name="random tokens",
        folder=Path(),
        train=ids,
        held_out=ids,
    )
