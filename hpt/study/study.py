"""A study: a grid of runs, what of it is missing, and the table of its results."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from hpt.config import config
from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import ConfigError, did_you_mean
from hpt.metrics.basin import edge_of
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, run_flops
from hpt.runs.store import Store
from hpt.study.adaptive import Plan, Run
from hpt.study.cost import Cost, reckon
from hpt.study.executor_local import Pool
from hpt.study.executor_ray import RayPool
from hpt.study.jobs import shapes_to_compile
from hpt.study.progress import Progress
from hpt.study.threads import choose_threads


@config
class Study:
    """A sweep of the learning rate over parameterizations and widths.

    Attributes
    ----------
    name: what reports call it (a profile's name).
    base: the run that all others vary; its width, learning rate, parameterization and seed are
        replaced.
    parameterizations: names, or :class:`Parameterization`.
    log2_lrs: for each width, log₂ of the hidden learning rates of the grid, evenly spaced,
        ascending.
    weight_decays: each is swept in full.
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
    parameterizations: tuple[Parameterization, ...]
    log2_lrs: dict[int, tuple[float, ...]]
    weight_decays: tuple[float, ...] = (0.0,)
    seeds: int = Field(1, ge=1)
    best_seeds: int = Field(2, ge=1)
    extend: int = Field(3, ge=0)
    search: Literal["grid", "adaptive"] = "grid"
    target: float = Field(0.4, gt=0)
    needs: Literal["cpu", "cuda"] = "cpu"

    @field_validator("parameterizations", mode="before")
    @classmethod
    def _parse(cls, values):
        return tuple(Parameterization.parse(v) if isinstance(v, str) else v for v in values)

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

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(sorted(self.log2_lrs))

    def select(
        self,
        parameterizations: Iterable[str | Parameterization] | None = None,
        widths: Iterable[int] | None = None,
    ) -> Study:
        """The part of the study with these parameterizations and widths.

        Raises
        ------
        ConfigError: for one that the study does not have.
        """
        wanted = [
            Parameterization.parse(p).switches for p in parameterizations or self.parameterizations
        ]
        kept = tuple(p for p in self.parameterizations if p.switches in wanted)
        grid = {w: self.log2_lrs.get(w) for w in (self.widths if widths is None else widths)}
        if len(kept) < len(set(wanted)) or None in grid.values():
            raise ConfigError(
                f"study {self.name!r} has no such part: {parameterizations}, widths {widths}.",
                "",
                f"parameterizations {[str(p) for p in self.parameterizations]}, widths {self.widths}",
            )
        return dataclasses.replace(self, parameterizations=kept, log2_lrs=grid)

    def run_config(
        self,
        parameterization: Parameterization,
        width: int,
        log2_lr: float,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> RunConfig:
        """The run at one point of the study."""
        base = self.base
        return dataclasses.replace(
            base,
            parameterization=parameterization,
            seed=seed,
            model=dataclasses.replace(base.model, width=width),
            train=dataclasses.replace(base.train, lr=2.0**log2_lr, weight_decay=weight_decay),
        )

    def plan(self, losses: dict[RunConfig, float]) -> list[RunConfig]:
        """The runs that the study consists of, as far as the losses known so far tell.

        The grid; then, where the best grid point of seed 0 is at an edge, one more learning rate
        beyond it at a time; then more seeds at the best and its neighbours. A function of the
        losses alone, so that an interrupted study goes on as if it had not been. The adaptive
        search is one too.
        """
        if self.search == "adaptive":
            return self._adaptive(losses)
        runs = []
        for p in self.parameterizations:
            for decay in self.weight_decays:
                for width in self.widths:
                    runs += self._cell(p, width, decay, losses)
        return runs

    def _priced(self, losses: dict[RunConfig, float]) -> list[RunConfig]:
        """The plan to reckon with: an adaptive search asks for fewer runs, nobody knows beforehand
        which."""
        return dataclasses.replace(self, search="grid").plan(losses)

    def _adaptive(self, losses: dict[RunConfig, float]) -> list[RunConfig]:
        """The runs of the adaptive search, as far as the losses known so far tell."""
        groups = [(p, decay) for p in self.parameterizations for decay in self.weight_decays]
        grids = tuple((g, w, self.log2_lrs[w]) for g in range(len(groups)) for w in self.widths)
        search = Plan(grids, self.target, self.seeds, max(self.seeds, self.best_seeds), self.extend)

        def config_of(run: Run) -> RunConfig:
            p, decay = groups[run.group]
            return self.run_config(p, run.width, run.log2_lr, decay, run.seed)

        return [config_of(r) for r in search.runs(lambda r: losses.get(config_of(r)))]

    def _cell(
        self, p: Parameterization, width: int, decay: float, losses: dict[RunConfig, float]
    ) -> list[RunConfig]:
        """Runs of one parameterization, weight decay and width."""
        points = list(self.log2_lrs[width])
        spacing, added = points[1] - points[0], {"low": 0, "high": 0}
        while True:
            first = [self.run_config(p, width, x, decay) for x in points]
            if not all(c in losses for c in first):
                break
            found = [losses[c] for c in first]
            edge = edge_of(points, found)
            if not edge or added[edge] == self.extend:
                break
            added[edge] += 1
            points = (
                [points[0] - spacing, *points] if edge == "low" else [*points, points[-1] + spacing]
            )
        runs = [
            self.run_config(p, width, x, decay, seed) for x in points for seed in range(self.seeds)
        ]
        if all(c in losses for c in first) and np.isfinite(found).any():
            best = int(np.nanargmin(found))
            near = points[max(best - 1, 0) : best + 2]
            runs += [
                self.run_config(p, width, x, decay, seed)
                for x in near
                for seed in range(self.seeds, self.best_seeds)
            ]
        return runs

    def run(
        self,
        store: str | os.PathLike[str] | Store = "runs/store",
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
        workers: how many processes, or, where runs get several threads, cores; by default as many
            as serve the machine, or the cluster, best.
        device: "auto", "cpu", "cuda", "mps".
        stack: train runs that differ only in learning rate, weight decay or seed in one program
            (:func:`hpt.train_stacked`); None decides by device and width.
        compiled: train by compiled steps (:func:`hpt.train_compiled`), on this machine's CPU; None
            decides by how many steps the whole study takes at a width.
        quiet: print nothing.
        address, gpus_per_job: of the executor "ray", see :class:`hpt.study.executor_ray.RayPool`.

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
        if executor not in ("local", "ray"):
            raise ConfigError(
                f"no executor is named {executor!r}.",
                did_you_mean(executor, ["local", "ray"]),
                'executor="local"',
            )
        if compiled and (stack or executor == "ray"):
            raise ConfigError(
                f"compiled=True with stack={stack}, executor={executor!r}.",
                "a compiled step is that of a single run, by this machine's processes",
                "compiled=None",
            )
        if executor == "local" and (address is not None or gpus_per_job is not None):
            raise ConfigError(
                f"address={address!r}, gpus_per_job={gpus_per_job!r}: only a cluster has these.",
                "",
                'executor="ray"',
            )
        if self.needs == "cuda" and executor == "ray" and device == "auto":
            device = "cuda"  # the cluster's; this machine may have none
        if (
            self.needs == "cuda"
            and (device if executor == "ray" else pick_device(device).type) != "cuda"
        ):
            grid = self.plan({})
            raise ConfigError(
                f"study {self.name!r} needs a CUDA GPU and this machine has none: the {len(grid)} runs "
                f"of its grid take {sum(map(run_flops, grid)):.1e} FLOPs.",
                "a profile for GPUs",
                'hpt.load_profile("quick"), made for a laptop',
            )
        store = store if isinstance(store, Store) else Store(store)
        fingerprint = load(self.base.data).fingerprint
        results: dict[RunConfig, RunResult] = {}
        missing = self._missing(results, store, fingerprint)
        if not missing and not quiet:
            print(f"{self.name}: all {len(results)} runs are in the store")
        if missing:
            if executor == "ray":
                pool = RayPool(
                    store, workers, device, address=address, gpus_per_job=gpus_per_job, stack=stack
                )
                tried = None  # steps are timed on this machine alone
            else:
                tried = pool = Pool(store, workers, device, stack, len(missing))
            with pool:
                prepare = functools.partial(self._prepare, pool, missing, compiled, quiet)
                cost = (
                    None
                    if quiet
                    else reckon(
                        self.name, self._priced, _losses(results), tried, prepare, store.path
                    )
                )
                if quiet:
                    prepare()
                progress = Progress(self.name, cost)
                while missing:
                    progress.round(results.values(), missing)
                    for result in pool.run(missing):
                        results[result.config] = result
                        progress.finished(result)
                    missing = self._missing(results, store, fingerprint)
            progress.close()
        order = sorted(results.values(), key=self._order)
        return pd.DataFrame([r.row() for r in order])

    def cost(
        self,
        store: str | os.PathLike[str] | Store = "runs/store",
        *,
        workers: int | None = None,
        device: str = "auto",
    ) -> Cost:
        """What :meth:`run` with the same arguments costs; nothing is trained.

        Steps of each shape are timed for about two seconds, in as many processes as would work;
        those that the study would compile are compiled first, once.
        """
        path, tokens = (
            store.path if isinstance(store, Store) else store,
            load(self.base.data, build=False),
        )
        results: dict[RunConfig, RunResult] = {}
        if tokens and os.path.isdir(path):
            self._missing(results, Store(path), tokens.fingerprint)
        losses = _losses(results)
        missing = [c for c in self.plan(losses) if c not in losses]
        notes = (
            ()
            if tokens
            else ("the text is tokenized first, once: not counted here, nor what the store holds",)
        )
        if self.needs == "cuda" and pick_device(device).type != "cuda":
            return reckon(
                self.name,
                self._priced,
                losses,
                None,
                lambda: "it needs a CUDA GPU, and here is none",
                path,
                notes,
            )
        with Pool(None, workers, device, runs=len(missing)) as pool:
            return reckon(
                self.name,
                self._priced,
                losses,
                pool,
                functools.partial(self._prepare, pool, missing),
                path,
                notes,
            )

    def _prepare(
        self,
        pool: Pool | RayPool,
        missing: list[RunConfig],
        compiled: bool | None = None,
        quiet: bool = False,
    ) -> str:
        """Choose each shape's threads and have the pool compile what pays for it, or what is
        wanted; why so."""
        if isinstance(pool, RayPool) or not missing:
            return pool.why
        grid = self._priced({})
        shapes, why_compiled = shapes_to_compile(
            grid, pool.device, False if pool.stack else compiled
        )
        pool.threads, why_threads = choose_threads(pool, grid)
        pool.compile(shapes, quiet)
        return f"{pool.why}; {why_threads}; {why_compiled}; {pool.plan(missing)[1]}"

    def results(self, store: str | os.PathLike[str] | Store) -> list[RunResult]:
        """The results that the store already holds, trained or not: nothing is started."""
        store = store if isinstance(store, Store) else Store(store)
        results: dict[RunConfig, RunResult] = {}
        self._missing(results, store, load(self.base.data).fingerprint)
        return sorted(results.values(), key=self._order)

    def _missing(
        self, results: dict[RunConfig, RunResult], store: Store, fingerprint: str
    ) -> list[RunConfig]:
        """Fill ``results`` from the store; return the planned runs it lacks, longest first."""
        while True:
            new = [c for c in self.plan(_losses(results)) if c not in results]
            found = [r for c in new if (r := store.load(c.run_id(fingerprint))) is not None]
            results |= {r.config: r for r in found}
            if not found:
                return sorted(new, key=run_flops, reverse=True)

    def _order(self, result: RunResult) -> tuple:
        c = result.config
        return (
            self.parameterizations.index(c.parameterization),
            c.train.weight_decay,
            c.model.width,
            c.train.lr,
            c.seed,
        )


def _losses(results: dict[RunConfig, RunResult]) -> dict[RunConfig, float]:
    return {c: r.val_loss for c, r in results.items()}
