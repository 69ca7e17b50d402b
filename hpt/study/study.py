"""A study: a grid of runs, what of it is missing, and the table of its results."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from hpt.cache_folder import StrPath
from hpt.config import config
from hpt.data.source import load
from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.rules import Rule
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, parse_parameterization, run_flops
from hpt.runs.store import Store
from hpt.study.cost import Cost, reckon
from hpt.study.executor import Executor
from hpt.study.executor_local import LocalExecutor
from hpt.study.executor_ray import RayExecutor
from hpt.study.plan import Losses, adaptive_plan, decay_key, grid_plan
from hpt.study.progress import Progress

StorePath = StrPath | Store
EXECUTORS = {"local": LocalExecutor, "ray": RayExecutor}
NOT_TOKENIZED = "the text is tokenized first, once: not counted here, nor what the store holds"


@config
class Study:
    """A sweep of the learning rate over parameterizations and widths.

    Attributes
    ----------
    name: what reports call it (a profile's name).
    base: the run that all others vary; its width, learning rate, parameterization and seed are
        replaced.
    parameterizations: names, :class:`Parameterization`, or rules of :func:`hpt.rule`, mixed.
    log2_lrs: for each width, log₂ of the learning rates of the grid, evenly spaced, ascending: of
        the hidden matrices, or what else a rule's ``lr_is`` says.
    weight_decays: each is swept in full.
    doses: in their place, weight decays as time constants of a run, see :class:`TrainConfig`; λ then
        follows the learning rate. A dose of 0 is a weight decay of 0.
    seeds: how many seeds every grid point gets.
    best_seeds: how many seeds the best learning rate and its two neighbours get.
    extend: how many learning rates are added, at most, beyond an edge where the optimum sits.
    search: "grid", or "adaptive": runs are added where they tell most, see
        :mod:`hpt.study.adaptive`. The grid then says where the optimum is expected, and
        ``best_seeds`` how many seeds any learning rate gets at most.
    target: width of the 95 % interval of log2 η*, octaves, at which the adaptive search of a width
        ends.
    needs: "cuda" for a study that no CPU finishes in a useful time.
    """

    name: str = "study"
    base: RunConfig
    parameterizations: tuple[Parameterization | Rule, ...]
    log2_lrs: dict[int, tuple[float, ...]]
    weight_decays: tuple[float, ...] = (0.0,)
    doses: tuple[float, ...] = ()
    seeds: int = Field(1, ge=1)
    best_seeds: int = Field(2, ge=1)
    extend: int = Field(3, ge=0)
    search: Literal["grid", "adaptive"] = "grid"
    target: float = Field(0.4, gt=0)
    needs: Literal["cpu", "cuda"] = "cpu"

    @field_validator("parameterizations", mode="before")
    @classmethod
    def _parse(cls, values):
        return tuple(map(parse_parameterization, values))

    @field_validator("parameterizations")
    @classmethod
    def _distinct_names(cls, values):
        named = {}
        for p in values:
            other = named.setdefault((p.name, p.base_width), p)
            if other != p:
                raise ValueError(
                    f"two rules are named {p.name!r}, which tables would not tell apart: "
                    "give one another name, dataclasses.replace(rule, name=…)"
                )
        return values

    @field_validator("log2_lrs")
    @classmethod
    def _even_grid(cls, grid):
        for width, points in grid.items():
            steps = np.diff(points)
            if len(points) < 3 or not (steps > 0).all() or not np.allclose(steps, steps[0]):
                raise ValueError(
                    f"width {width} needs three or more evenly spaced, ascending log2_lrs, given {points}"
                )
        return grid

    @model_validator(mode="after")
    def _one_decay(self):
        if self.doses and self.weight_decays != (0.0,):
            raise ValueError(
                f"give either weight_decays or doses, given {self.weight_decays} and {self.doses}"
            )
        own = self.base.train
        if (own.dose or own.weight_decay) and not (self.doses or any(self.weight_decays)):
            given = f"doses=({own.dose},)" if own.dose else f"weight_decays=({own.weight_decay},)"
            raise ValueError(f"the study replaces the weight decay of its base: give the study {given}")
        return self

    @property
    def decays(self) -> list[dict[str, float]]:
        """The weight decays that are swept, as fields of a run's :class:`TrainConfig`."""
        if self.doses:
            return [{"dose": dose} if dose else {"weight_decay": 0.0} for dose in self.doses]
        return [{"weight_decay": decay} for decay in self.weight_decays]

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(sorted(self.log2_lrs))

    def select(
        self,
        parameterizations: Iterable[str | Parameterization | Rule] | None = None,
        widths: Iterable[int] | None = None,
    ) -> Study:
        """The part of the study with these parameterizations and widths.

        Raises
        ------
        ConfigError: for one that the study does not have.
        """
        names = {p.name for p in self.parameterizations}
        asked = parameterizations or names
        wanted = {p if p in names else parse_parameterization(p).name for p in asked}
        kept = tuple(p for p in self.parameterizations if p.name in wanted)
        grid = {w: self.log2_lrs.get(w) for w in (self.widths if widths is None else widths)}
        if len(kept) < len(wanted) or None in grid.values():
            raise ConfigError(
                f"study {self.name!r} has no such part: {parameterizations}, widths {widths}.",
                "",
                f"parameterizations {[p.name for p in self.parameterizations]}, widths {self.widths}",
            )
        return dataclasses.replace(self, parameterizations=kept, log2_lrs=grid)

    def run_config(
        self,
        parameterization: Parameterization | Rule,
        width: int,
        log2_lr: float,
        weight_decay: float = 0.0,
        seed: int = 0,
        dose: float | None = None,
    ) -> RunConfig:
        """The run at one point of the study."""
        base = self.base
        train = dataclasses.replace(base.train, lr=2.0**log2_lr, weight_decay=weight_decay, dose=dose)
        return dataclasses.replace(
            base,
            parameterization=parameterization,
            seed=seed,
            model=dataclasses.replace(base.model, width=width),
            train=train,
        )

    def plan(self, losses: Losses) -> list[RunConfig]:
        """The runs that the study consists of, as far as the losses known so far tell.

        A function of the study and the losses alone, so that an interrupted study goes on as if it
        had not been interrupted; see :mod:`hpt.study.plan`.
        """
        plan = adaptive_plan if self.search == "adaptive" else grid_plan
        return plan(self, losses)

    def run(
        self,
        store: StorePath = "runs/store",
        *,
        executor: str = "local",
        workers: int | None = None,
        device: str = "auto",
        stack: bool | None = None,
        compiled: bool | None = None,
        quiet: bool = False,
        address: str | None = None,
        gpus_per_job: float | None = None,
    ) -> pd.DataFrame:
        """Train the runs that the store lacks and return the table of all.

        Parameters
        ----------
        store: a folder or a URL, see :class:`hpt.Store`. The same call after an interruption goes
            on where it stopped.
        executor: "local", a pool of processes on this machine, or "ray", tasks on a Ray cluster,
            whose machines all have to reach the store.
        workers: how many processes, or jobs at a time on a cluster; by default one a core, as far as
            there are runs and memory for them, or as many as the cluster holds.
        device: "auto", "cpu", "cuda", "mps".
        stack: train runs that differ only in learning rate, weight decay or seed in one program
            (:func:`hpt.train_stacked`); None decides by device and width.
        compiled: train by compiled steps (:func:`hpt.train_compiled`), on this machine's CPU; None
            decides by how many steps the whole study takes at a width.
        quiet: print nothing.
        address, gpus_per_job: of the executor "ray", see :class:`hpt.study.executor_ray.RayExecutor`.

        Returns
        -------
        A table with one row a run (see :meth:`RunResult.row`), ordered by parameterization, width,
        learning rate and seed.

        Raises
        ------
        ConfigError: for an unknown executor, or a study that needs a GPU where there is none.
        StudyError: when worker processes keep dying, or the cluster is lost; finished runs are
            kept.
        """
        store = Store.at(store)
        options = (workers, device, stack, compiled, address, gpus_per_job)
        trainer = self._executor(executor, store, *options)
        fingerprint = load(self.base.data).fingerprint
        results = {}
        missing = self._missing(results, store, fingerprint)
        if not missing and not quiet:
            print(f"{self.name}: all {len(results)} runs are in the store")
        if missing:
            with trainer:
                trainer.prepare(grid_plan(self, {}), missing, quiet)
                cost = None if quiet else reckon(self, _losses(results), trainer, store.path)
                progress = Progress(self.name, cost)
                while missing:
                    progress.round(results.values(), missing)
                    for result in trainer.run(missing):
                        results[result.config] = result
                        progress.finished(result)
                    missing = self._missing(results, store, fingerprint)
            progress.close()
        return pd.DataFrame([result.row() for result in self._in_order(results)])

    def _executor(self, name, *options):
        if name not in EXECUTORS:
            raise ConfigError(
                f"no executor is named {name!r}.", did_you_mean(name, EXECUTORS), 'executor="local"'
            )
        executor = EXECUTORS[name](*options)
        if self.needs == "cuda" and not executor.require_gpu():
            grid = self.plan({})
            raise ConfigError(
                f"study {self.name!r} needs a CUDA GPU, not device={executor.device!r} here: the "
                f"{len(grid)} runs of its grid take {sum(map(run_flops, grid)):.1e} FLOPs.",
                "a profile for GPUs",
                'hpt.load_profile("quick"), made for a laptop',
            )
        return executor

    def cost(
        self, store: StorePath = "runs/store", *, workers: int | None = None, device: str = "auto"
    ) -> Cost:
        """What :meth:`run` with the same arguments costs; nothing is trained.

        Steps of each shape are timed for about two seconds, in as many processes as would work;
        those that the study would compile are compiled first, once.
        """
        path = store.path if isinstance(store, Store) else store
        tokens = load(self.base.data, build=False)
        notes = [] if tokens else [NOT_TOKENIZED]
        results = {}
        missing = self.plan({})
        if tokens and os.path.isdir(path):
            missing = self._missing(results, Store(path), tokens.fingerprint)
        trainer = LocalExecutor(None, workers, device)
        if self.needs == "cuda" and not trainer.require_gpu():
            trainer = Executor(None)
            trainer.why = "it needs a CUDA GPU, and here is none"
        with trainer:
            trainer.prepare(grid_plan(self, {}), missing)
            return reckon(self, _losses(results), trainer, path, notes)

    def results(self, store: StorePath) -> list[RunResult]:
        """The results that the store already holds, trained or not: nothing is started."""
        store = Store.at(store)
        results = {}
        self._missing(results, store, load(self.base.data).fingerprint)
        return self._in_order(results)

    def _missing(self, results, store, fingerprint):
        """Fill ``results`` from the store; return the planned runs it lacks, longest first."""
        while True:
            new = [run for run in self.plan(_losses(results)) if run not in results]
            run_ids = [run.run_id(fingerprint) for run in new]
            found = list(filter(None, map(store.load, run_ids)))
            results |= {result.config: result for result in found}
            if not found:
                return sorted(new, key=run_flops, reverse=True)

    def _in_order(self, results):
        """By parameterization, weight decay or dose, width, learning rate and seed."""

        def key(run):
            parameterization = self.parameterizations.index(run.parameterization)
            train = run.train
            return parameterization, decay_key(run), run.model.width, train.lr, run.seed

        return [results[run] for run in sorted(results, key=key)]


def _losses(results):
    return {run: result.val_loss for run, result in results.items()}
