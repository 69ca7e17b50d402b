"""Which learning rates to try next, so that the intervals of η* shrink most for the fewest runs.

A grid spends most of its runs where they say little: far outside the basin, or at its flat bottom.
Here every cell (one width of one group) is asked, in this order:

1. Was it begun? It starts with four rates: the narrowest width with every second one of its grid,
   every other with two on each side of where its narrower neighbour's optimum points.
2. Is its best rate at an edge? It goes on outwards.
3. Has it four rates in the basin, and a well through them? Else the rates next to the best are added.
4. Once no cell answers any of these: which runs, a few at a time, reduce the variance of log2 η* most
   in the skewed wells of :mod:`hpt.metrics.wells`, whose skew the widths share? They are added until
   the interval of every cell, as :func:`hpt.basins` gives it, is below the target.

Rates lie on a lattice of half the grid's spacing that holds the grid's own, so that plans share
records.

Shapes: N runs and K rates of a cell, C learning rates, M = 3W + 1 numbers that describe the wells of W
widths: L*, ln η* and h of each, and the skew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import approx_fprime

from hpt.metrics.basin import LN2, REACH_OCTAVES, RISE_NATS, basin_window, edge_of, gather, middle
from hpt.metrics.transfer import basins
from hpt.metrics.wells import SKEW_PRIOR, common_skew, well_loss, wells_of

#: Points of the lattice in one step of the grid.
LATTICE = 2
#: Rates in a basin: three fit any well, whatever its skew.
LEAST_RATES = 4
#: Runs a cell gets in one round; the next ones are placed better.
MOST_AT_ONCE = 2
#: Grid steps around the optimum where new rates say little, and make the best one doubtful.
FLAT_BOTTOM = 0.75
#: Share of RISE_NATS up to which a well is trusted to say where a run would lie.
INSIDE = 0.8
#: Weight of a run with another seed, whose batches shift the loss as well.
REPEAT_WEIGHT = 0.75
#: Nats of one run: what the prior of the skew weighs, on which little depends.
NOMINAL_NOISE = 0.02
#: Octaves that an interval counts as at most, and where it has no end.
OPEN_SPAN = 9.0
BOOTSTRAPS = 400


class Run(NamedTuple):
    """One run of a plan: its group (a number), width, log2 of the learning rate, and seed."""

    group: int
    width: int
    log2_lr: float
    seed: int


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes
    ----------
    grids: of each group, its widths, ascending, and the log2 learning rates where their optimum is
        expected.
    target: width of the 95 % interval of log2 η*, octaves, at which a cell is done.
    seeds: of every rate. most_seeds: that one rate gets at most, no fewer than ``seeds``.
    extend: steps of the grid that the search may go beyond it.
    """

    grids: tuple[tuple[tuple[int, tuple[float, ...]], ...], ...]
    target: float
    seeds: int = 1
    most_seeds: int = 2
    extend: int = 3

    def runs(self, loss_of: Callable[[Run], float | None]) -> list[Run]:
        """All runs, as far as the losses known tell; the losses of other runs change nothing."""
        runs = []
        while True:
            losses = {run: loss_of(run) for run in runs}
            if None in losses.values():
                return runs
            new = _next_runs(self, tuple(sorted(losses.items())))
            if not new:
                return runs
            runs += new


@functools.lru_cache(maxsize=512)
def _next_runs(search, known):
    """The runs that follow once all of ``known``, pairs of a run and its loss, are done; none where
    the plan is complete."""
    rows = [(*run, loss) for run, loss in known]
    table = pd.DataFrame(rows, columns=[*Run._fields, "loss"], dtype=float)
    table.loss = table.loss.fillna(np.inf)
    groups = [_cells(search, group, table) for group in range(len(search.grids))]
    new = [run for cells in groups for run in _explore(cells)]
    if new or not known:
        return new
    span_of = _spans(table)
    return [run for cells in groups for run in _sharpen(cells, span_of)]


class Well(NamedTuple):
    """The basin of one width: log2 η*, curvature h (nats) and the skew that its group shares."""

    log2_lr: float
    h: float
    skew: float

    def u(self, x):
        """ln η − ln η* at log2 rates."""
        return (x - self.log2_lr) * LN2


@dataclass
class Cell:
    """One width of one group: its lattice, what was tried, and the well through that.

    Attributes
    ----------
    rows: its runs, with their losses, nats, inf where diverged.
    x_K, loss_K, seeds_K: log2 of the rates tried, mean loss and number of seeds of each.
    begun: whether it has runs.
    edge: on which the best rate sits, "low" or "high"; "low" before it is begun.
    well: None where the optimum does not lie between rates tried.
    """

    search: Search
    group: int
    width: int
    grid: tuple[float, ...]
    rows: pd.DataFrame
    well: Well | None = None

    def __post_init__(self):
        self.spacing = self.grid[1] - self.grid[0]
        self.middle = (self.grid[0] + self.grid[-1]) / 2
        beyond = self.search.extend * LATTICE
        steps = np.arange(-beyond, (len(self.grid) - 1) * LATTICE + beyond + 1)
        self.lattice = self.grid[0] + steps * self.spacing / LATTICE
        self.x_K, at_N = np.unique(self.rows.log2_lr, return_inverse=True)
        self.seeds_K = np.bincount(at_N)
        self.loss_K = np.bincount(at_N, self.rows.loss) / self.seeds_K
        self.begun = len(self.rows) > 0
        self.edge = edge_of(self.x_K, self.loss_K)

    def rate(self, x):
        """The nearest rate of the lattice."""
        return float(self.lattice[abs(self.lattice - x).argmin()])

    def runs_at(self, rates):
        """The first seeds of new rates."""
        new = [x for x in dict.fromkeys(map(self.rate, rates)) if x not in self.x_K]
        seeds = range(self.search.seeds)
        return [Run(self.group, self.width, x, seed) for x in new for seed in seeds]

    def start(self, expected):
        """Four rates about where the optimum is expected, octaves from the middle of the grid;
        further apart where nothing says where."""
        centre = self.rate(np.clip(self.middle + (expected or 0), self.grid[0], self.grid[-1]))
        outer = 3 if expected is None else 2
        return self.runs_at(centre + step * self.spacing for step in (-outer, -1, 1, outer))

    def outwards(self):
        """The next rate beyond the edge where the best one sits, while there is room."""
        if not self.edge:
            return []
        end, step = (0, -2) if self.edge == "low" else (-1, 2)
        return self.runs_at([self.x_K[end] + step * self.spacing])

    def fill(self):
        """Untried rates next to the best one, the nearest first."""
        best = self.x_K[np.argmin(self.loss_K)]
        steps = (-1, 1, -2, 2, -3, 3, -4, 4)
        return self.runs_at(best + step * self.spacing / LATTICE for step in steps)[: self.room]

    @property
    def room(self):
        """Runs that the cell may still get: no more in all than the grid's plan would give it."""
        beyond = max(self.grid[0] - self.x_K[0], self.x_K[-1] - self.grid[-1], 0)
        repeats = 3 * (self.search.most_seeds - self.search.seeds)
        most = len(self.grid) * self.search.seeds + repeats + round(beyond / self.spacing)
        return min(MOST_AT_ONCE, most - len(self.rows))

    @property
    def window(self):
        """The rates in the basin."""
        return basin_window(self.x_K, self.loss_K)


def _cells(search, group, table):
    """The cells of a group, the narrowest width first, with their wells."""
    rows = table[table.group == group]
    cells = [Cell(search, group, w, grid, rows[rows.width == w]) for w, grid in search.grids[group]]
    bracketed = {cell.width: cell for cell in cells if not cell.edge}
    if not bracketed:
        return cells
    points = gather(rows[rows.width.isin(bracketed)], "width")
    points = points.take(points.reason_W == "")
    skew = common_skew(points)
    fit = wells_of(points, skew)
    x_W = points.origin_W + fit.u_BxW[0] / LN2
    found = zip(points.scale_W, x_W, fit.h_BxW[0], points.tried_Wx2, strict=True)
    for width, x, h, (lowest, highest) in found:
        if lowest <= x <= highest:
            bracketed[width].well = Well(x, h, skew)
    return cells


def _explore(cells):
    """Runs that bracket each width's optimum and fill its basin; none where that is done."""
    new = []
    expected = None
    narrower_is_bracketed = True
    for cell in cells:
        if not cell.begun:
            # Wider ones wait.
            return new + cell.start(expected) if narrower_is_bracketed else new
        outwards = cell.outwards()
        narrower_is_bracketed = not outwards
        if cell.edge:
            new += outwards
        elif len(cell.x_K[cell.window]) < LEAST_RATES or not cell.well:
            new += cell.fill()
        if cell.well:
            # As far from the middle of the grid the next width's optimum is expected.
            expected = cell.well.log2_lr - cell.middle
    return new


def _spans(table):
    """Width of the interval of log2 η*, octaves, by group and width."""
    found = basins(table, by="group", bootstraps=BOOTSTRAPS, loss_unit="nats").set_index(["group", "width"])
    span = found.log2_lr_high - found.log2_lr_low
    return span.fillna(OPEN_SPAN).clip(upper=OPEN_SPAN).to_dict()


def _sharpen(cells, span_of):
    """The next runs of a group: those that shrink the intervals above the target most, all widths
    together."""
    fitted = [cell for cell in cells if cell.well]
    span_W = np.array([span_of[cell.group, cell.width] for cell in fitted])
    room = {cell.width: cell.room for cell in fitted}
    gradient_of = {}
    for i in range(len(fitted)):
        gradient_of |= _candidates(fitted, i)
    information_MxM = _information(fitted)
    first_variance_W = _variances(information_MxM)
    wide_W = span_W > 0
    chosen = []
    while len(chosen) < MOST_AT_ONCE * wide_W.sum():
        shrunk_W = np.sqrt(_variances(information_MxM) / first_variance_W)
        wide_W &= span_W * shrunk_W > cells[0].search.target
        runs = [run for run in gradient_of if run not in chosen and room[run.width] > 0]
        if not runs or not wide_W.any():
            break
        gradient_CxM = np.array([gradient_of[run] for run in runs])
        after_CxMxM = information_MxM + gradient_CxM[:, :, None] * gradient_CxM[:, None]
        best = np.sqrt(_variances(after_CxMxM)[:, wide_W]).sum(1).argmin()
        information_MxM = after_CxMxM[best]
        chosen.append(runs[best])
        room[runs[best].width] -= 1
    return chosen


def _variances(information):
    """Of ln η* at each width, (…, W), from the information (…, M, M)."""
    return np.diagonal(np.linalg.inv(information), axis1=-2, axis2=-1)[..., 1::3]


def _candidates(fitted, i):
    """Runs that would lie in a width's basin, with their loss's derivatives by the M numbers, in
    units of their noise: new rates outside its flat bottom, and one more seed of those tried."""
    cell = fitted[i]
    x_C = cell.lattice[_inside(cell)]
    seeds_of = dict(zip(cell.x_K, cell.seeds_K.tolist(), strict=True))
    found = {}
    for x, gradient_M in zip(x_C.tolist(), _gradient(fitted, i, x_C), strict=True):
        seeds = seeds_of.get(x, 0)
        if not seeds and abs(x - cell.well.log2_lr) >= FLAT_BOTTOM * cell.spacing:
            found |= dict.fromkeys(cell.runs_at([x]), gradient_M)
        elif 0 < seeds < cell.search.most_seeds:
            run = Run(cell.group, cell.width, x, seeds)
            found[run] = np.sqrt(REPEAT_WEIGHT) * gradient_M
    return found


def _inside(cell):
    """Which rates of the lattice would lie in the basin, as far as its well and the runs around it
    tell."""
    x_C = cell.lattice
    centre = middle(cell.x_K, cell.loss_K)
    near_C = abs(x_C - centre) <= REACH_OCTAVES + 1e-6
    well = cell.well
    low_C = well_loss(well.u(x_C), 0.0, well.h, well.skew) <= INSIDE * RISE_NATS
    outside_K = cell.x_K[cell.loss_K - cell.loss_K.min() > RISE_NATS]
    # From the centre, a rate known to lie outside comes first.
    behind_CxK = (outside_K - x_C[:, None]) * (outside_K - centre) <= 0
    return near_C & low_C & ~behind_CxK.any(1)


def _gradient(fitted, i, x_C):
    """Derivatives of a width's loss at log2 rates by the M numbers: (C, M)."""
    well = fitted[i].well
    u_C = well.u(x_C)

    def loss(numbers):
        least, shift, h, skew = numbers
        return well_loss(u_C - shift, least, h, skew)

    gradient_CxM = np.zeros((len(x_C), 3 * len(fitted) + 1))
    own = [*range(3 * i, 3 * i + 3), -1]
    gradient_CxM[:, own] = approx_fprime([0.0, 0.0, well.h, well.skew], loss)
    return gradient_CxM


def _information(fitted):
    """Fisher information of the runs in the basins about the M numbers, in units of one run's
    noise."""
    skew_prior = (NOMINAL_NOISE / SKEW_PRIOR[1]) ** 2
    information_MxM = np.diag([1e-6] * (3 * len(fitted)) + [skew_prior])
    for i, cell in enumerate(fitted):
        gradient_KxM = _gradient(fitted, i, cell.x_K[cell.window])
        weight_K = 1 + REPEAT_WEIGHT * (cell.seeds_K[cell.window] - 1)
        information_MxM += (gradient_KxM.T * weight_K) @ gradient_KxM
    return information_MxM
