"""What a study costs before it starts: FLOPs, time, memory and disk."""

from __future__ import annotations

import html
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from hpt.device import pick_device
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.study.plan import Plan, forecast
from hpt.study.threads import wall_seconds
from hpt.study.timing import (
    Calibration,
    Workers,
    at_once,
    calibrate_as_trained,
    shape_of,
    threads_of,
)
from hpt.training.memory import step_bytes

#: Of a record: a loss in the shortest decimals that give its float32 back; all but configuration and losses.
LOSS_BYTES, REST_BYTES = 10.3, 600
#: What file systems give out at a time.
BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Cost:
    """What a study will cost: the runs that it lacks.

    Attributes
    ----------
    name: of the study.
    done, now: runs that are in the store; runs to start with.
    later: runs that results will ask for if every optimum lies inside the grid (more seeds at the
        best).
    at_most_more: how many more come if every optimum sits at an edge.
    workers, why: how many processes, and the reason.
    flops: training FLOPs of ``now`` and ``later``, as are all that follow.
    seconds: wall time, the start included; nan where no run of the study can be tried here. A run
        that diverges stops early, which is not reckoned with.
    start_seconds: what of ``seconds`` goes to starting the workers and to this estimate.
    memory_bytes: of all workers at once, at the fullest moment; on a GPU, of its memory.
    free_memory_bytes: what new processes can have.
    disk_bytes, free_disk_bytes: size of the records; room where the store is, nan where nobody can
        tell.
    notes: what else is worth saying.
    by_width: one row a width: runs, flops, seconds (of all its runs, one after another),
        memory_bytes (of one worker).
    calibration: how long a run takes.
    at_once: how many runs of a shape train at a time.
    """

    name: str
    done: int
    now: int
    later: int
    at_most_more: int
    workers: int
    why: str
    flops: float
    seconds: float
    start_seconds: float
    memory_bytes: float
    free_memory_bytes: float
    disk_bytes: float
    free_disk_bytes: float
    notes: tuple[str, ...]
    by_width: pd.DataFrame = field(repr=False, compare=False)
    calibration: Calibration = field(repr=False)
    at_once: Mapping[RunConfig, int] = field(repr=False)

    @property
    def runs(self) -> int:
        """Runs to train, as far as can be told."""
        return self.now + self.later

    def seconds_more(self, config: RunConfig) -> float:
        """By how much one run more makes the study longer."""
        return self.calibration.run_seconds(config) / self.at_once.get(
            shape_of(config), self.workers
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will not fit."""
        found = []
        if self.memory_bytes > self.free_memory_bytes:
            found.append(
                f"{in_bytes(self.memory_bytes)} of memory are needed and {in_bytes(self.free_memory_bytes)} "
                "are free: give fewer workers, or a smaller micro_batch_size"
            )
        if self.disk_bytes > self.free_disk_bytes:
            found.append(
                f"{in_bytes(self.disk_bytes)} of disk are needed and {in_bytes(self.free_disk_bytes)} "
                "are free: make room, or give another store"
            )
        return tuple(found)

    def to_frame(self) -> pd.DataFrame:
        """One row a width, see ``by_width``."""
        return self.by_width.copy()

    def __str__(self) -> str:
        later = f", then about {self.later} as the results ask" if self.later else ""
        more = (
            f"; up to {self.at_most_more} more if an optimum sits at an edge"
            if self.at_most_more
            else ""
        )
        wall_time = "unknown" if math.isnan(self.seconds) else f"about {duration(self.seconds)}"
        return "\n".join(
            [
                f"{self.name}: {self.done} done, {self.now} to run{later}{more}",
                f"  FLOPs   {self.flops:.2g}",
                f"  time    {wall_time} ({self.why})",
                f"  memory  {in_bytes(self.memory_bytes)}, {in_bytes(self.free_memory_bytes)} free",
                f"  disk    {in_bytes(self.disk_bytes)}, {in_bytes(self.free_disk_bytes)} free",
                *(f"  note: {line}" for line in self.notes),
                *(f"  WARNING: {line}" for line in self.warnings),
            ]
        )

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def reckon(
    name: str,
    plan: Plan,
    losses: Mapping[RunConfig, float],
    pool: Workers | None,
    prepare: Callable[[], str],
    store: str | os.PathLike[str],
    notes: Sequence[str] = (),
) -> Cost:
    """The cost of what a study lacks.

    Parameters
    ----------
    name, plan: of the study.
    losses: of the runs that are done.
    pool: the workers that will train, in which steps are timed; None leaves time and memory
        unknown.
    prepare: makes the workers ready and returns why there are so many, or why there is no pool. It
        is called once all is counted that needs no workers: they start meanwhile.
    store: where records go.
    notes: what else is worth saying.
    """
    begun, place, nan = time.perf_counter(), pool and pick_device(pool.device), float("nan")
    now, later, at_most_more = forecast(plan, losses)
    runs = [*now, *later]
    shapes = list(dict.fromkeys(map(shape_of, runs)))
    found, memory, start = (
        Calibration({}, nan, nan),
        dict.fromkeys(shapes, nan),
        nan if runs else 0.0,
    )
    tensors = {s: step_bytes(s, place) for s in shapes} if pool is not None else {}
    counted = time.perf_counter() - begun
    why, begun = prepare(), time.perf_counter()
    workers, cores, threads, number = 1, 1, dict.fromkeys(shapes, 1), dict.fromkeys(shapes, 1)
    if runs and pool is not None:
        workers, cores, room = pool.workers, pool.cores, psutil.virtual_memory().available
        threads |= {s: threads_of(pool, s) for s in shapes}
        number |= {s: at_once(pool, threads[s]) for s in shapes}
        fit = [
            s for s in shapes if number[s] * tensors[s] < room
        ]  # trying must not fill the machine
        found = calibrate_as_trained(pool, fit)
        memory = {s: found.base_bytes + size for s, size in tensors.items()}
        start = counted + time.perf_counter() - begun
    rows = [
        (c.model.width, 1, run_flops(c), found.run_seconds(c), memory[shape_of(c)]) for c in runs
    ]
    table = pd.DataFrame(rows, columns=["width", "runs", "flops", "seconds", "memory_bytes"])
    by_width = table.groupby("width", as_index=False)
    return Cost(
        name=name,
        done=len(losses),
        now=len(now),
        later=len(later),
        at_most_more=at_most_more,
        workers=workers,
        why=why,
        flops=float(table.flops.sum()),
        start_seconds=start,
        seconds=start
        + sum(
            wall_seconds([(found.run_seconds(c), threads[shape_of(c)]) for c in wave], cores)
            for wave in (now, later)
        ),
        memory_bytes=max((number[s] * size for s, size in memory.items()), default=0.0),
        free_memory_bytes=found.free_bytes,
        disk_bytes=float(sum(map(record_bytes, runs))),
        free_disk_bytes=free_disk(store),
        notes=tuple(notes),
        by_width=by_width.sum(min_count=1).assign(
            memory_bytes=by_width.memory_bytes.max().memory_bytes
        ),
        calibration=found,
        at_once=number,
    )


def record_bytes(config: RunConfig) -> float:
    """Bytes on disk of a run's record."""
    size = len(json.dumps(config.to_dict())) + REST_BYTES + LOSS_BYTES * run_steps(config)
    return math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES


def free_disk(store: str | os.PathLike[str]) -> float:
    """Bytes free where the store is or will be; nan for a store that is no folder of this
    machine."""
    if "://" in str(store):
        return float("nan")
    there = next(p for p in (Path(store).absolute(), *Path(store).absolute().parents) if p.exists())
    return float(shutil.disk_usage(there).free)


def in_bytes(size: float) -> str:
    """Bytes as people say them: "512 B", "3.1 MB", "24 GB"."""
    if math.isnan(size):
        return "unknown"
    unit = max(0, min(4, int(math.log10(max(size, 1)) / 3)))
    return f"{size / 1000**unit:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def duration(seconds: float) -> str:
    """A duration in words: "0.8 s", "42 s", "3 min 12 s", "2 h 05 min", "3.2 days"."""
    if not math.isfinite(seconds):
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole / 86400:.1f} days"
