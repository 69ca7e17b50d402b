"""Which runs a study consists of, as far as the losses known so far tell, and how many more may come.

Each plan is a function of the study and the losses alone, so that an interrupted study goes on as if
it had not been interrupted. ``study`` is a :class:`hpt.Study`.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hpt.metrics.basin import edge_of
from hpt.runs.run_config import RunConfig
from hpt.study.adaptive import Search

Losses = Mapping[RunConfig, float]


def grid_plan(study, losses: Losses) -> list[RunConfig]:
    """The grid; then, where the best grid point of seed 0 is at an edge, one more learning rate beyond
    it at a time; then more seeds at the best one and its neighbours."""
    cells = itertools.product(study.parameterizations, study.decays, study.widths)
    return [run for cell in cells for run in _cell_plan(study, *cell, losses)]


def adaptive_plan(study, losses: Losses) -> list[RunConfig]:
    """The runs of the adaptive search, see :mod:`hpt.study.adaptive`."""
    groups = list(itertools.product(study.parameterizations, study.decays))
    search = Search(
        groups=len(groups),
        grids=tuple(sorted(study.log2_lrs.items())),
        target=study.target,
        seeds=study.seeds,
        most_seeds=max(study.seeds, study.best_seeds),
        extend=study.extend,
    )

    def config_of(run):
        parameterization, decay = groups[run.group]
        return study.run_config(parameterization, run.width, run.log2_lr, seed=run.seed, **decay)

    return [config_of(run) for run in search.runs(lambda run: losses.get(config_of(run)))]


def _cell_plan(study, parameterization, decay, width, losses):
    """The grid's plan for one parameterization, weight decay and width."""
    run_at = functools.partial(study.run_config, parameterization, width, **decay)
    grid = study.log2_lrs[width]
    spacing = grid[1] - grid[0]
    # Half a step more than may be added, for rounding.
    reach = (study.extend + 0.5) * spacing
    rates = list(grid)
    found = [losses.get(run_at(x)) for x in rates]
    while None not in found:
        edge = edge_of(rates, found)
        x = rates[0] - spacing if edge == "low" else rates[-1] + spacing
        if not edge or not grid[0] - reach < x < grid[-1] + reach:
            break
        at = 0 if edge == "low" else len(rates)
        rates.insert(at, x)
        found.insert(at, losses.get(run_at(x)))
    runs = [run_at(x, seed=seed) for x in rates for seed in range(study.seeds)]
    if None in found or not np.isfinite(found).any():
        return runs
    best = int(np.nanargmin(found))
    near = rates[max(best - 1, 0) : best + 2]
    more_seeds = range(study.seeds, study.best_seeds)
    return runs + [run_at(x, seed=seed) for x in near for seed in more_seeds]


class Forecast(NamedTuple):
    """Runs that a study lacks.

    Attributes
    ----------
    now: runs to start with.
    later: runs that results will ask for if every optimum lies inside the grid.
    at_most_more: how many more come if every optimum sits at an edge.
    """

    now: list[RunConfig]
    later: list[RunConfig]
    at_most_more: int


def forecast(study, losses: Losses) -> Forecast:
    """What is to be trained once ``losses`` are known.

    An adaptive search is counted as the grid: it asks for fewer runs, nobody knows beforehand which.
    """
    first = grid_plan(study, losses)
    grids = _grids(first)
    middles = {cell: np.median(rates) for cell, rates in grids.items()}
    inside = _asked_for(study, losses, middles)
    most = len(inside)
    # The further out the optimum, the more learning rates are added, up to a limit.
    for steps in itertools.count():
        outside = {cell: rates[-1] + steps * np.diff(rates).min() for cell, rates in grids.items()}
        asked = len(_asked_for(study, losses, outside))
        if steps > 0 and asked <= most:
            break
        most = max(most, asked)
    now = [run for run in first if run not in losses]
    return Forecast(now, inside[len(now) :], most - len(inside))


def _grids(runs):
    """The log2 learning rates of each cell, ascending."""
    rates = defaultdict(set)
    for run in runs:
        rates[_cell(run)].add(_log2_lr(run))
    return {cell: sorted(found) for cell, found in rates.items()}


def _asked_for(study, losses, optima):
    """All runs that are missing, if the loss of each cell is least at these log2 learning rates."""
    known = dict(losses)
    while new := [run for run in grid_plan(study, known) if run not in known]:
        known |= {run: abs(_log2_lr(run) - optima[_cell(run)]) for run in new}
    return [run for run in known if run not in losses]


def _cell(run):
    return run.parameterization, run.model.width, decay_key(run)


def decay_key(run: RunConfig) -> tuple[float, float]:
    """What is swept of a run's weight decay: its dose, or λ where that was given; the smaller first."""
    return run.train.dose or 0.0, run.train.weight_decay


def _log2_lr(run):
    return float(np.log2(run.train.lr))
