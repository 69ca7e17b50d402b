"""A study: a grid of runs, what of it is missing, and the table of its results."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from hpt.config import config
from hpt.errors import ConfigError
from hpt.parameterization.rules import Rule
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, parse_parameterization
from hpt.runs.store import Store
from hpt.study.cost import Cost
from hpt.study.plan import Losses, adaptive_plan, decay_key, grid_plan
from hpt.study.together import StorePath, Todo, cost_together, run_together

#: Parameterization, weight decay (as fields of a run's training) and width of one sweep of the learning rate.
Cell = tuple[Parameterization | Rule, dict[str, float], int]
Seeds = Annotated[int, Field(ge=1, le=10_000)]
#: No training takes learning rates of more or fewer octaves.
MOST_OCTAVES = 200


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
    only: for some of the widths, the parameterizations that they are swept in; the other widths are in
        all.
    best_seeds: how many seeds the best learning rate and its neighbours get, at all widths or by width.
    best_neighbours: by width, how many learning rates on each side of the best get as many seeds; one
        where nothing is said.
    extend: how many learning rates are added, at most, beyond an edge where the optimum sits.
    search: "grid", all of it; "basin", of the grid and beyond it the rates near the best alone, which
        are those that figures are made from; or "adaptive": runs are added where they tell most, see
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
    seeds: Seeds = 1
    best_seeds: Seeds | dict[int, Seeds] = 2
    best_neighbours: dict[int, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    only: dict[int, tuple[Parameterization | Rule, ...]] = Field(default_factory=dict)
    extend: int = Field(3, ge=0)
    search: Literal["grid", "basin", "adaptive"] = "grid"
    target: float = Field(0.4, gt=0)
    needs: Literal["cpu", "cuda"] = "cpu"

    @field_validator("parameterizations", mode="before")
    @classmethod
    def _parse(cls, values):
        # What holds no values is told by its type.
        return tuple(map(parse_parameterization, values)) if isinstance(values, Iterable) else values

    @field_validator("only", mode="before")
    @classmethod
    def _parse_each(cls, only):
        if not isinstance(only, dict):
            return only
        return {width: cls._parse(values) for width, values in only.items()}

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
        if not grid:
            raise ValueError("there is no width in it")
        for width, points in grid.items():
            steps = np.diff(points)
            if np.abs(points).max(initial=0) > MOST_OCTAVES:
                raise ValueError(
                    f"width {width} has learning rates 2^x with x beyond ±{MOST_OCTAVES}, given {points}"
                )
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

    @model_validator(mode="after")
    def _only_what_is_swept(self):
        unknown = set(self.only) - set(self.log2_lrs)
        if isinstance(self.best_seeds, dict):
            unknown |= set(self.best_seeds) - set(self.log2_lrs)
        for some in self.only.values():
            unknown |= {p.name for p in some} - {p.name for p in self.parameterizations}
        if unknown:
            raise ValueError(f"only or best_seeds names what the study does not sweep: {[*unknown]}")
        if not self.cells:
            raise ValueError("nothing is swept: parameterizations, weight_decays or only leave nothing")
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

    @property
    def cells(self) -> list[Cell]:
        """The sweeps of the learning rate that the study consists of."""
        every = itertools.product(self.parameterizations, self.decays, self.widths)
        return [cell for cell in every if cell[0] in self.only.get(cell[2], self.parameterizations)]

    def best_seeds_at(self, width: int) -> int:
        """How many seeds the best learning rates of a width get."""
        return self.best_seeds.get(width, 1) if isinstance(self.best_seeds, dict) else self.best_seeds

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
        only = {w: tuple(p for p in some if p in kept) for w, some in self.only.items() if w in grid}
        # A width that none of these is swept at goes.
        grid = {w: rates for w, rates in grid.items() if only.get(w, kept)}
        only = {w: some for w, some in only.items() if w in grid}
        seeds = self.best_seeds
        if isinstance(seeds, dict):
            seeds = {w: self.best_seeds_at(w) for w in grid}
        return dataclasses.replace(self, parameterizations=kept, log2_lrs=grid, only=only, best_seeds=seeds)

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
        minutes: float | None = None,
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
        minutes: how long this call may take. The most telling runs come first, one is started only if
            it is expected to end in time, and the table is then of the runs that there are; the same
            call goes on.
        workers: how many processes, or jobs at a time on a cluster; by default one a core, as far as
            there are runs and memory for them, or as many as the cluster holds.
        device: "auto", "cpu", "cuda", "mps".
        stack: train runs that stack (:func:`hpt.train_stacked` says which) in one program; None decides
            by a timing that is kept, see :func:`hpt.training.members.pace`.
        compiled: train by compiled steps (:func:`hpt.train_compiled`), on this machine; None
            decides by how many steps the whole study takes at a width. With ``stack=True`` too the
            program is that of a stack.
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
        (table,) = run_together(
            [self],
            store,
            executor=executor,
            minutes=minutes,
            quiet=quiet,
            workers=workers,
            device=device,
            stack=stack,
            compiled=compiled,
            address=address,
            gpus_per_job=gpus_per_job,
        )
        return table

    def cost(
        self, store: StorePath = "runs/store", *, workers: int | None = None, device: str = "auto"
    ) -> Cost:
        """What :meth:`run` with the same arguments costs; nothing is trained.

        Steps of each shape are timed for about two seconds, in as many processes as would work;
        those that the study would compile are compiled first, once.
        """
        return cost_together([self], store, workers=workers, device=device)

    def missing(self, store: StorePath) -> list[RunConfig]:
        """The runs that the store lacks, as far as its losses tell; theirs may ask for more."""
        return Todo([self], Store.at(store)).missing

    def results(self, store: StorePath) -> list[RunResult]:
        """The results that the store already holds, trained or not: nothing is started."""
        return Todo([self], Store.at(store)).results_of(self)

    def place(self, run: RunConfig) -> tuple:
        """Parameterization, weight decay or dose, width, learning rate and seed: the order of a table."""
        parameterization = self.parameterizations.index(run.parameterization)
        return parameterization, decay_key(run), run.model.width, run.train.lr, run.seed
