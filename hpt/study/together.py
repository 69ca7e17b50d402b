"""Studies trained together, by the same workers: what is missing, who trains it, what that costs.

A study is a :class:`hpt.Study`; several that share workers spare their start.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import pandas as pd

from hpt.data.source import DataConfig, load
from hpt.errors import ConfigError, StudyInterrupted, did_you_mean
from hpt.files import StrPath
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, run_flops
from hpt.runs.store import Store
from hpt.study.cost import Cost, reckon
from hpt.study.executor import Executor
from hpt.study.executor_local import LocalExecutor
from hpt.study.executor_ray import RayExecutor
from hpt.study.plan import Losses, forecast, telling
from hpt.study.progress import Progress
from hpt.study.time_limit import TimeLimit

StorePath = StrPath | Store
EXECUTORS = {"local": LocalExecutor, "ray": RayExecutor}
NOT_TOKENIZED = "the text is tokenized first, once: not counted here, nor what the store holds"


def run_together(
    studies: Sequence,
    store: StorePath = "runs/store",
    *,
    executor: str = "local",
    minutes: float | None = None,
    workers: int | None = None,
    device: str = "auto",
    stack: bool | None = None,
    compiled: bool | None = None,
    quiet: bool = False,
    address: str | None = None,
    gpus_per_job: float | None = None,
) -> list[pd.DataFrame]:
    """Train what the store lacks of several studies; the table of each, as :meth:`hpt.Study.run` has it,
    whose arguments these are."""
    limit = TimeLimit(minutes)
    if executor not in EXECUTORS:
        known = did_you_mean(executor, EXECUTORS)
        raise ConfigError(f"no executor is named {executor!r}.", known, 'executor="local"')
    # Refused before a store is made.
    trainer = EXECUTORS[executor](None, workers, device, stack, compiled, address, gpus_per_job)
    for study in studies:
        _check_device(study, trainer)
    trainer.store = Store.at(store)
    todo = Todo(studies, trainer.store)
    missing = todo.missing
    if not missing and not quiet:
        print(f"{todo.name}: all {len(todo.results)} runs are in the store")
    if missing:
        todo.store.check_writable()
        trainer.check(missing)
        with trainer:
            trainer.prepare(todo.grid, missing, quiet)
            _train(todo, trainer, limit, quiet)
    return [pd.DataFrame([result.row() for result in todo.results_of(study)]) for study in studies]


def _train(todo, trainer, limit, quiet):
    """Train what is missing, wave by wave, as results ask for more and time allows."""
    # A limit is kept by the estimate; nobody else asks what a quiet study costs.
    cost = None if quiet and limit.minutes is None else todo.cost(trainer, todo.store.path)
    progress = Progress(todo.name, None if quiet else cost)
    missing = todo.missing
    while missing:
        if limit.minutes is not None:
            missing.sort(key=todo.telling)
        progress.round(todo.results.values(), missing)
        runs = limit.runs_in_time(missing, cost)
        if not runs:
            break
        try:
            for result in trainer.run(runs):
                todo.results[result.config] = result
                progress.finished(result)
        except KeyboardInterrupt:
            # Looks into the store first, where a worker may have put more than is known here.
            left = len(todo.missing)
            kept = len(todo.results)
            planned = left + kept
            raise StudyInterrupted(
                f"interrupted: {kept} of {planned} runs are kept; run it again to go on."
            ) from None
        missing = todo.missing
    progress.close(missing)


def _check_device(study, executor):
    if study.needs == "cuda" and not executor.require_gpu():
        grid = study.plan({})
        raise ConfigError(
            f"study {study.name!r} needs a CUDA GPU, not device={executor.device!r} here: the "
            f"{len(grid)} runs of its grid take {sum(map(run_flops, grid)):.1e} FLOPs.",
            "a profile for GPUs",
            'hpt.load_profile("quick"), made for a laptop',
        )


def cost_together(
    studies: Sequence, store: StorePath = "runs/store", *, workers: int | None = None, device: str = "auto"
) -> Cost:
    """What :func:`run_together` with the same arguments costs; nothing is trained."""
    path = store.path if isinstance(store, Store) else store
    tokenized = all(load(study.base.data, build=False) for study in studies)
    notes = [] if tokenized else [NOT_TOKENIZED]
    todo = Todo(studies, Store(path) if tokenized and os.path.isdir(path) else None)
    trainer = LocalExecutor(None, workers, device)
    if any(study.needs == "cuda" for study in studies) and not trainer.require_gpu():
        trainer = Executor(None)
        trainer.why = "it needs a CUDA GPU, and here is none"
    with trainer:
        trainer.prepare(todo.grid, todo.missing)
        return todo.cost(trainer, path, notes)


class Todo:
    """What is known of several studies, and what is missing.

    Parameters
    ----------
    store: holds the results; None for none at all.

    Attributes
    ----------
    name: of the first study.
    results: by configuration.
    """

    def __init__(self, studies: Sequence, store: Store | None):
        self.studies = studies
        self.store = store
        self.name = studies[0].name
        self.results: dict[RunConfig, RunResult] = {}
        self._fingerprints: dict[DataConfig, str] = {}

    @functools.cached_property
    def grid(self) -> list[RunConfig]:
        """The runs of all, as far as can be told before any is done; to tell takes seconds."""
        grid = {}
        for study in self.studies:
            expected = forecast(study, {})
            grid |= dict.fromkeys(expected.now)
            grid |= dict.fromkeys(expected.later)
        return list(grid)

    @property
    def losses(self) -> Losses:
        """The losses of the results."""
        return {run: result.val_loss for run, result in self.results.items()}

    @property
    def missing(self) -> list[RunConfig]:
        """The runs that the store lacks, the longest first; what it has becomes a result."""
        missing = {}
        for study in self.studies:
            missing |= dict.fromkeys(self._missing(study))
        return sorted(missing, key=run_flops, reverse=True)

    def _missing(self, study):
        while True:
            new = [run for run in study.plan(self.losses) if run not in self.results]
            known = len(self.results)
            if self.store is not None:
                self._read(new, self._fingerprint_of(study.base.data))
            if len(self.results) == known:
                return new

    def _fingerprint_of(self, data):
        if data not in self._fingerprints:
            # Looks through the whole text.
            self._fingerprints[data] = load(data).fingerprint
        return self._fingerprints[data]

    def _read(self, runs, fingerprint):
        for run in runs:
            result = self.store.load(run.run_id(fingerprint))
            if result:
                self.results[run] = result

    def results_of(self, study) -> list[RunResult]:
        """The results that there are of one of the studies, in its order."""
        self.missing  # noqa: B018
        planned = [run for run in study.plan(self.losses) if run in self.results]
        return [self.results[run] for run in sorted(planned, key=study.place)]

    def telling(self, run: RunConfig) -> tuple[int, float]:
        """Sorts the most telling runs first, then the shortest."""
        return min(telling(study, run) for study in self.studies), run_flops(run)

    def cost(self, trainer: Executor, path: StrPath, notes: Sequence[str] = ()) -> Cost:
        """What is missing costs."""
        losses = self.losses
        forecasts = [forecast(study, losses) for study in self.studies]
        return reckon(self.name, forecasts, len(self.results), trainer, path, notes)
