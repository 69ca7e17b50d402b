"""What a study costs before it starts: FLOPs, time, memory and disk."""

from __future__ import annotations

import heapq
import html
import json
import math
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hpt.files import StrPath
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.study.executor import Executor
from hpt.study.plan import Forecast
from hpt.study.timing import Calibration

#: Of a record: a loss in the shortest decimals that give its float32 back; all but configuration and losses.
LOSS_BYTES, REST_BYTES = 10.3, 600
#: What file systems give out at a time.
BLOCK_BYTES = 4096
TOO_LITTLE_MEMORY = "give fewer workers, or a smaller micro_batch_size"
TOO_LITTLE_DISK = "make room, or give another store"


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

    @property
    def runs(self) -> int:
        """Runs to train, as far as can be told."""
        return self.now + self.later

    def seconds_more(self, config: RunConfig) -> float:
        """By how much one run more makes the study longer."""
        return self.calibration.run_seconds(config) / self.workers

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will not fit."""
        needs = [
            ("memory", self.memory_bytes, self.free_memory_bytes, TOO_LITTLE_MEMORY),
            ("disk", self.disk_bytes, self.free_disk_bytes, TOO_LITTLE_DISK),
        ]
        return tuple(
            f"{in_bytes(needed)} of {kind} are needed and {in_bytes(free)} are free: {remedy}"
            for kind, needed, free, remedy in needs
            if needed > free
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a width, see ``by_width``."""
        return self.by_width.copy()

    def __str__(self) -> str:
        runs = f"{self.name}: {self.done} done, {self.now} to run"
        if self.later:
            runs += f", then about {self.later} as the results ask"
        if self.at_most_more:
            runs += f"; up to {self.at_most_more} more if an optimum sits at an edge"
        time = "unknown"
        if math.isfinite(self.seconds):
            time = f"about {duration(self.seconds)}"
        lines = [
            runs,
            f"  FLOPs   {self.flops:.2g}",
            f"  time    {time} ({self.why})",
            f"  memory  {in_bytes(self.memory_bytes)}, {in_bytes(self.free_memory_bytes)} free",
            f"  disk    {in_bytes(self.disk_bytes)}, {in_bytes(self.free_disk_bytes)} free",
        ]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def reckon(
    name: str,
    forecasts: Sequence[Forecast],
    done: int,
    executor: Executor,
    store: StrPath,
    notes: Sequence[str] = (),
) -> Cost:
    """The cost of what studies lack that are trained together.

    Parameters
    ----------
    name: of the first.
    forecasts: what each lacks.
    done: how many of their runs are done.
    executor: who will train, made ready by its ``prepare``.
    store: where records go.
    notes: what else is worth saying.
    """
    begun = time.perf_counter()
    now = list(dict.fromkeys(run for expected in forecasts for run in expected.now))
    later = [run for expected in forecasts for run in expected.later]
    runs = [*now, *later]
    timed = executor.time(runs) if runs else Calibration()
    start_seconds = time.perf_counter() - begun if runs else 0.0
    rows = [
        (run.model.width, 1, run_flops(run), timed.run_seconds(run), timed.memory_bytes(run)) for run in runs
    ]
    table = pd.DataFrame(rows, columns=["width", "runs", "flops", "seconds", "memory_bytes"])
    by_width = table.groupby("width").sum(min_count=1)
    by_width["memory_bytes"] = table.groupby("width").memory_bytes.max()
    waves = [map(timed.run_seconds, wave) for wave in (now, later)]
    return Cost(
        name=name,
        done=done,
        now=len(now),
        later=len(later),
        at_most_more=sum(expected.at_most_more for expected in forecasts),
        workers=executor.workers,
        why=executor.why,
        flops=table.flops.sum(),
        seconds=start_seconds + sum(wall_seconds(wave, executor.workers) for wave in waves),
        start_seconds=start_seconds,
        memory_bytes=executor.workers * table.memory_bytes.max() if runs else 0.0,
        free_memory_bytes=timed.free_bytes,
        disk_bytes=sum(map(record_bytes, runs)),
        free_disk_bytes=free_disk(store),
        notes=tuple(notes),
        by_width=by_width.reset_index(),
        calibration=timed,
    )


def wall_seconds(runs: Iterable[float], workers: int) -> float:
    """When the last of these runs, seconds each, ends: the longest first, each as a worker is free."""
    ends = [0.0] * workers
    for seconds in sorted(runs, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    # Unlike the builtin, it passes nan on.
    return np.max(ends)


def record_bytes(config: RunConfig) -> float:
    """Bytes on disk of a run's record."""
    size = len(json.dumps(config.to_dict())) + REST_BYTES + LOSS_BYTES * run_steps(config)
    return math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES


def free_disk(store: StrPath) -> float:
    """Bytes free where the store is or will be; nan for a store that is no folder of this
    machine."""
    if "://" in str(store):
        return math.nan
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_bytes(size: float) -> str:
    """Bytes in words: "512 B", "3.14 MB", "24.1 GB"."""
    if math.isnan(size):
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def duration(seconds: float) -> str:
    """A duration in words: "0.8 s", "42 s", "3 min 12 s", "2 h 05 min", "3.2 days"."""
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    if minutes == 0:
        return f"{rest} s"
    if hours == 0:
        return f"{minutes} min {rest:02d} s"
    if hours < 48:
        return f"{hours} h {minutes_rest:02d} min"
    return f"{seconds / 86400:.1f} days"
