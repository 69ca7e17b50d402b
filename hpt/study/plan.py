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

from hpt.metrics.basin import REACH_OCTAVES, basin_window, edge_of
from hpt.runs.run_config import RunConfig
from hpt.study.adaptive import Search

Losses = Mapping[RunConfig, float]


def grid_plan(study, losses: Losses) -> list[RunConfig]:
    """The rates of each sweep, of the whole grid or of the basin alone, as far as seed 0 tells; then more
    seeds at the best one and its neighbours."""
    return [run for cell in study.cells for run in _cell_plan(study, *cell, losses)]


def adaptive_plan(study, losses: Losses) -> list[RunConfig]:
    """The runs of the adaptive search, see :mod:`hpt.study.adaptive`."""
    groups = list(itertools.product(study.parameterizations, study.decays))
    grids = []
    for group in groups:
        widths = [width for *cell, width in study.cells if tuple(cell) == group]
        grids.append(tuple((width, study.log2_lrs[width]) for width in widths))
    most_seeds = max(study.seeds, *map(study.best_seeds_at, study.widths))
    search = Search(tuple(grids), study.target, study.seeds, most_seeds, study.extend)

    def config_of(run):
        parameterization, decay = groups[run.group]
        return study.run_config(parameterization, run.width, run.log2_lr, seed=run.seed, **decay)

    return [config_of(run) for run in search.runs(lambda run: losses.get(config_of(run)))]


def _cell_plan(study, parameterization, decay, width, losses):
    """The grid's plan for one parameterization, weight decay and width."""
    run_at = functools.partial(study.run_config, parameterization, width, **decay)

    def loss_at(x):
        return losses.get(run_at(x))

    rates_of = _rates_of_the_basin if study.search == "basin" else _rates_of_the_grid
    rates = rates_of(study.log2_lrs[width], study.extend, loss_at)
    found = list(map(loss_at, rates))
    runs = [run_at(x, seed=seed) for x in rates for seed in range(study.seeds)]
    if None in found or not np.isfinite(found).any():
        return runs
    best = int(np.nanargmin(found))
    neighbours = study.best_neighbours.get(width, 1)
    near = rates[max(best - neighbours, 0) : best + neighbours + 1]
    more_seeds = range(study.seeds, study.best_seeds_at(width))
    more = [run_at(x, seed=seed) for x in near for seed in more_seeds]
    runs += more
    if all(run in losses for run in more):
        # With all seeds another rate may be the best, at an edge, or with a basin that reaches elsewhere.
        lattice = np.array(_lattice(study.log2_lrs[width], study.extend))
        best = _best_on_the_mean(rates, study.best_seeds_at(width), run_at, losses)
        octaves = REACH_OCTAVES if study.search == "basin" else lattice[1] - lattice[0]
        further = [x for x in _in_reach(lattice, best, octaves) if x not in rates]
        runs += [run_at(x, seed=seed) for x in further for seed in range(study.seeds)]
    return runs


def _best_on_the_mean(rates, seeds, run_at, losses):
    """The rate with the lowest mean over the seeds that are known."""

    def mean_at(x):
        runs = [run_at(x, seed=seed) for seed in range(seeds)]
        return np.mean([losses[run] for run in runs if run in losses])

    return min(rates, key=mean_at)


def _rates_of_the_grid(grid, extend, loss_at):
    """All of the grid; where the best rate is at an edge, one more beyond it at a time."""
    lattice = _lattice(grid, extend)
    rates = list(grid)
    while True:
        found = list(map(loss_at, rates))
        edge = "" if None in found else edge_of(rates, found)
        start = lattice.index(rates[0]) - (edge == "low")
        stop = start + len(rates) + (edge != "")
        if not edge or start < 0 or stop > len(lattice):
            return rates
        rates = lattice[start:stop]


def _rates_of_the_basin(grid, extend, loss_at):
    """The three in the grid's middle, then those in reach of the best one: a basin's window would leave
    out all others, and what lies two octaves above the best says what a mistake costs."""
    lattice = np.array(_lattice(grid, extend))
    middle = len(grid) // 2
    rates = list(grid[middle - 1 : middle + 2])
    while True:
        found = list(map(loss_at, rates))
        if None in found:
            return rates
        loss_K = np.where(np.isfinite(found), found, np.inf)
        wider = {*rates, *_in_reach(lattice, rates[loss_K.argmin()], REACH_OCTAVES)}
        below = lattice[lattice < rates[0]].tolist()
        if below and _would_be_kept(rates, loss_K, below[-1]):
            wider.add(below[-1])
        if len(wider) == len(rates):
            return rates
        rates = sorted(wider)


def _in_reach(lattice, x, octaves):
    return lattice[abs(lattice - x) <= octaves + 1e-6].tolist()


def _would_be_kept(rates, loss_K, x):
    """Whether a basin's window would keep a lower rate whose loss is nearly the best."""
    nearly_best = np.nextafter(loss_K.min(), np.inf)
    window = basin_window(np.array([x, *rates]), np.array([nearly_best, *loss_K]))
    return window.start == 0


def _lattice(grid, extend):
    """The grid with so many rates more on each side."""
    spacing = grid[1] - grid[0]
    below = [grid[0] - k * spacing for k in range(extend, 0, -1)]
    above = [grid[-1] + k * spacing for k in range(1, extend + 1)]
    return [*below, *grid, *above]


def telling(study, run: RunConfig) -> int:
    """How much a run tells of a study, 0 the most: every second rate of the grid, then the other rates,
    then more seeds."""
    if run.seed:
        return 2
    grid = study.log2_lrs.get(run.model.width, (0.0, 1.0, 2.0))
    middle = grid[len(grid) // 2]
    spacing = grid[1] - grid[0]
    steps = (_log2_lr(run) - middle) / spacing
    return round(steps) % 2


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
