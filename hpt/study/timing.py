"""How long a run takes here: a few steps of each shape, timed in the workers while all of them are
busy."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
import torch

from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.data.token_cache import TextSource
from hpt.device import pick_device
from hpt.errors import StudyError
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.runs.store import Store
from hpt.training.compiled import Compiled
from hpt.training.loop import Training

#: Seconds of steps that are timed, over all shapes and for one.
SECONDS, SECONDS_A_SHAPE = 1.2, 0.3
#: A step with more FLOPs is timed on fewer sequences; a shape where one sequence has more is not tried.
MOST_STEP_FLOPS = {"cpu": 3e10, "cuda": 3e13, "mps": 1e12}
#: Steps before the timing: kernels are chosen and memory is fetched in them.
COLD_STEPS = 2
MOST_STEPS = 2000
#: Seconds that a worker waits for the others to start.
PATIENCE = 60


class Workers(Protocol):
    """What :class:`hpt.study.executor_local.Pool` is: ``workers`` processes on ``cores`` cores,
    each taking one task at a time."""

    workers: int
    cores: int
    device: str
    threads: Mapping[RunConfig, int]
    compiled: frozenset[RunConfig]

    def submit(self, task, *args): ...


@dataclass(frozen=True)
class Timing:
    """Seconds of one shape's run in a worker: its set-up with its record's writing, a step, a
    validation sequence."""

    setup_seconds: float
    step_seconds: float
    sequence_seconds: float


@dataclass(frozen=True)
class Calibration:
    """What a machine's workers take for runs of some shapes.

    Attributes
    ----------
    timings: by shape, see :func:`shape_of`; empty where every shape is too large to try.
    base_bytes: memory that a worker takes beside its run's tensors; 0 on a GPU.
    free_bytes: memory that was free before the workers started; on a GPU, once they had.
    """

    timings: dict[RunConfig, Timing]
    base_bytes: int
    free_bytes: int

    def run_seconds(self, config: RunConfig) -> float:
        """Seconds of a run in a worker, while the others are busy too; nan where nothing was timed.

        A shape that was too large to try is taken to need as long for a FLOP as the largest that
        was tried.
        """
        shape = shape_of(config)
        if shape in self.timings:
            found = self.timings[shape]
            return (
                found.setup_seconds
                + run_steps(config) * found.step_seconds
                + config.train.validation_sequences * found.sequence_seconds
            )
        if not self.timings:
            return float("nan")
        largest = max(self.timings, key=run_flops)
        return run_flops(config) * self.timings[largest].step_seconds / run_flops(largest)


def shape_of(config: RunConfig) -> RunConfig:
    """The same run with all replaced that costs no time: one step of it stands for all steps of
    many runs."""
    train = dataclasses.replace(
        config.train,
        lr=1e-6,
        weight_decay=0.0,
        steps=1,
        warmup_steps=0,
        tokens_per_parameter=None,
        loss_bound=1e30,
        validation_sequences=1,
    )
    return dataclasses.replace(config, seed=0, parameterization=Parameterization(), train=train)


def threads_of(workers: Workers, shape: RunConfig) -> int:
    """How many threads the workers give a run of a shape."""
    return workers.threads.get(shape, 1)


def at_once(workers: Workers, threads: int) -> int:
    """How many runs with so many threads each the workers train at a time."""
    return max(1, min(workers.workers, workers.cores // threads))


def calibrate(
    workers: Workers, configs: Sequence[RunConfig], threads: int = 1, seconds: float = SECONDS
) -> Calibration:
    """Time runs like these in as many workers as train at once: a step is slower while the other
    cores are busy.

    Parameters
    ----------
    workers, configs: the processes, and what to time.
    threads: of each run.
    seconds: of steps, over all shapes.

    Raises
    ------
    StudyError: a worker died.
    """
    place = pick_device(workers.device)
    most = MOST_STEP_FLOPS[place.type]
    shapes = sorted(dict.fromkeys(map(shape_of, configs)), key=run_flops)
    shapes = [s for s in shapes if run_flops(s) / s.train.batch_size <= most]
    with tempfile.TemporaryDirectory() as meeting:
        free = psutil.virtual_memory().available
        number = at_once(workers, threads)
        each = min(SECONDS_A_SHAPE, seconds / max(len(shapes), 1))
        tasks = [
            workers.submit(
                _measure, shapes, workers.device, meeting, number, workers.compiled, threads, each
            )
            for _ in range(number)
        ]
        try:
            found = [task.result() for task in tasks]
        except BrokenProcessPool:
            raise StudyError(
                "a worker died while steps were tried.",
                "the machine ran out of memory",
                "fewer workers, or a smaller micro_batch_size",
            ) from None
    timings, base, free_for_worker = zip(*found, strict=True)
    mean = {
        s: Timing(*np.mean([dataclasses.astuple(t[s]) for t in timings], axis=0).tolist())
        for s in shapes
        if all(s in t for t in timings)
    }
    return Calibration(mean, max(base), min(free_for_worker) if place.type == "cuda" else free)


def calibrate_as_trained(workers: Workers, configs: Sequence[RunConfig]) -> Calibration:
    """:func:`calibrate` with as many threads for each shape as the workers give its runs."""
    alike = defaultdict(list)
    for config in configs:
        alike[threads_of(workers, shape_of(config))].append(config)
    parts = [
        calibrate(workers, tried, threads) for threads, tried in sorted(alike.items() or [(1, ())])
    ]
    return Calibration(
        {shape: timing for part in parts for shape, timing in part.timings.items()},
        max(part.base_bytes for part in parts),
        parts[0].free_bytes,
    )


def _measure(
    shapes: Sequence[RunConfig],
    device: str,
    meeting: str,
    workers: int,
    compiled: Collection[RunConfig],
    threads: int,
    seconds: float,
):
    """In a worker: timings by shape, memory that the process takes by itself, and what a GPU has
    free then."""
    torch.set_num_threads(threads)
    place, own = pick_device(device), f"{meeting}/{os.getpid()}"
    free = torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else 0
    smallest = {shape in compiled: shape for shape in reversed(shapes)}
    for (
        is_compiled,
        shape,
    ) in smallest.items():  # the first run of each kind also loads what torch loads late
        _time(shape, device, 0.0, own, is_compiled)
    base = (
        0 if place.type == "cuda" else psutil.Process().memory_full_info().uss
    )  # unshared pages alone
    _meet(Path(meeting), workers)
    timings = {}
    for shape in shapes:
        try:
            timings[shape] = _time(shape, device, seconds, own, shape in compiled)
        except torch.OutOfMemoryError:  # a GPU's; the larger ones will not fit either
            break
    return timings, base, free


def _meet(folder: Path, workers: int) -> None:
    """Wait until so many processes are here."""
    (folder / f"{os.getpid()}.here").touch()
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("*.here"))) < workers and time.monotonic() < end:
        time.sleep(0.002)


def _time(shape: RunConfig, device: str, seconds: float, store: str, compiled: bool) -> Timing:
    """Set a run up, take steps for so many seconds and validate, by the code that trains."""
    batch = shape.train.batch_size
    tried = max(
        1, min(batch, int(batch * MOST_STEP_FLOPS[pick_device(device).type] / run_flops(shape)))
    )
    config = dataclasses.replace(
        shape,
        train=dataclasses.replace(
            shape.train, steps=MOST_STEPS, batch_size=tried, validation_sequences=tried
        ),
    )
    data, compiled = _stand_in(config), compiled and tried == batch  # a program's batch is fixed
    if compiled:
        Compiled(config, data)  # loads the program, once in a process
    start = time.perf_counter()
    run = Compiled(config, data) if compiled else Training(config, data, device)
    setup = time.perf_counter() - start
    run.advance(COLD_STEPS)  # waits for the device at its end, as does each call below
    start, chunk = time.perf_counter(), 1
    while run.step == COLD_STEPS or (
        run.step < run.steps and time.perf_counter() - start < seconds
    ):
        run.advance(min(run.step + chunk, run.steps))
        chunk = min(2 * chunk, 25)
    step = (time.perf_counter() - start) / (run.step - COLD_STEPS)
    if tried < batch:  # the optimizer's share does not grow with the batch
        start = time.perf_counter()
        run.optimizer.step()
        run.losses[0].item()  # waits for the device
        optimizer = min(time.perf_counter() - start, step)
        step = optimizer + (step - optimizer) * batch / tried
    start = time.perf_counter()
    result = run.result()
    validated = time.perf_counter() - start
    Store(store).save(result)
    return Timing(setup + time.perf_counter() - start - validated, step, validated / tried)


def _stand_in(config: RunConfig) -> TokenSource:
    """Tokens to take steps on: the synthetic source itself; for text, random ones in memory."""
    if config.data.source == "synthetic":
        return load(config.data)
    context, vocabulary = config.model.context, config.data.vocab_size
    size = max(1_000_000, 4 * (context + 1) * config.train.batch_size)
    ids = np.random.default_rng(0).integers(vocabulary, size=size, dtype=np.uint32)
    ids = ids.astype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
    return TextSource(
        vocab_size=vocabulary,
        fingerprint="none",
        facts={},
        name="random tokens",
        folder=Path(),
        train=ids,
        held_out=ids,
    )
