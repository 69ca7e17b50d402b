"""Which learning rates to try next, so that the intervals of η* shrink most for the fewest runs.

A grid spends most of its runs where they say little: far outside the basin, or at its flat bottom.
    Here every cell (one
width of one group) starts with four rates: the narrowest width with every second one of its grid,
    every other with
two on each side of where its narrower neighbour's optimum points. It goes on outwards while the
best rate is at an edge. Then runs are added, a few at a time, where they reduce the variance of
log2 η* most in the skewed wells of :mod:`hpt.metrics.basin`, whose skew the widths share, until the
interval of every cell, as :func:`hpt.basins` gives it, is below the target. Rates lie on a lattice
of half the grid's spacing that holds the grid's own, so that plans share records.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import exprel

from hpt.metrics.basin import (
    LN2,
    REACH_OCTAVES,
    RISE_NATS,
    SKEW_PRIOR,
    WellFit,
    basin_window,
    common_skew,
    edge_of,
    gather,
    middle,
    phi2,
)
from hpt.metrics.transfer import basins

LATTICE = 2  # points of the lattice in one step of the grid
LEAST_RATES = 4  # in a basin: three fit any well, whatever its skew
MOST_AT_ONCE = 2  # runs a cell gets in one round; the next ones are placed better
FLAT_BOTTOM = (
    0.75  # grid steps around the optimum where new rates say little, and make the best one doubtful
)
REPEAT_WEIGHT = 0.75  # of a run with another seed, whose batches shift the loss as well
NOMINAL_NOISE = 0.02  # nats of one run: what the prior of the skew weighs, on which little depends
BOOTSTRAPS = 400


class Run(NamedTuple):
    """One run of a plan: its group (a number), width, log2 of the learning rate, and seed."""

    group: int
    width: int
    log2_lr: float
    seed: int


@dataclass(frozen=True)
class Plan:
    """What is searched.

    Attributes
    ----------
    grids: group, width and log2 learning rates of each cell: where the optimum is expected.
    target: width of the 95 % interval of log2 η*, octaves, at which a cell is done.
    seeds: of every rate. most_seeds: that one rate gets at most.
    extend: steps of the grid that the search may go beyond it.
    """

    grids: tuple[tuple[int, int, tuple[float, ...]], ...]
    target: float
    seeds: int = 1
    most_seeds: int = 2
    extend: int = 3

    def runs(self, loss_of: Callable[[Run], float | None]) -> list[Run]:
        """All runs, as far as the losses known tell; the losses of other runs change nothing."""
        runs: list[Run] = []
        while True:
            losses = {run: loss_of(run) for run in runs}
            if None in losses.values() or not (
                new := _next_runs(self, tuple(sorted(losses.items())))
            ):
                return runs
            runs += new


class Cell:
    """One width of one group: its lattice, and what was tried."""

    def __init__(
        self,
        plan: Plan,
        group: int,
        width: int,
        grid: tuple[float, ...],
        losses: Mapping[Run, float],
    ):
        self.plan, self.group, self.width, self.grid = plan, group, width, grid
        self.spacing, self.losses = grid[1] - grid[0], losses
        self.low, self.high = (
            grid[0] - plan.extend * self.spacing,
            grid[-1] + plan.extend * self.spacing,
        )
        self.x_K = np.unique([run.log2_lr for run in losses])
        self.loss_K = np.array(
            [np.mean([v for run, v in losses.items() if run.log2_lr == x]) for x in self.x_K]
        )
        self.edge = edge_of(self.x_K, self.loss_K) if losses else ""

    def rate(self, x: float) -> float:
        """The nearest rate of the lattice."""
        steps = np.round((np.clip(x, self.low, self.high) - self.grid[0]) * LATTICE / self.spacing)
        return float(self.grid[0] + steps * self.spacing / LATTICE)

    def runs_at(self, rates: Iterable[float]) -> list[Run]:
        """The first seeds of new rates."""
        new = dict.fromkeys(self.rate(x) for x in rates)
        return [
            Run(self.group, self.width, x, s)
            for x in new
            if x not in self.x_K
            for s in range(self.plan.seeds)
        ]

    def start(self, expected: float | None) -> list[Run]:
        """Four rates about where the optimum is expected, further apart where nothing says
        where."""
        first, last = self.grid[0], self.grid[-1]
        centre = self.rate(
            (first + last) / 2 if expected is None else np.clip(expected, first, last)
        )
        steps = (-3, -1, 1, 3) if expected is None else (-2, -1, 1, 2)
        return self.runs_at(centre + k * self.spacing for k in steps)

    def outwards(self) -> list[Run]:
        """The next rate beyond the edge where the best one sits, while there is room."""
        ends = {"low": (self.x_K[0], -2), "high": (self.x_K[-1], 2)} if self.edge else {}
        return self.runs_at(
            end + steps * self.spacing for side, (end, steps) in ends.items() if side == self.edge
        )

    @property
    def bracketed(self) -> bool:
        return bool(self.losses) and not self.edge

    @property
    def room(self) -> int:
        """Runs that the cell may still get: no more in all than the grid's plan would give it."""
        p = self.plan
        beyond = max(self.grid[0] - self.x_K[0], self.x_K[-1] - self.grid[-1], 0) / self.spacing
        most = len(self.grid) * p.seeds + 3 * max(p.most_seeds - p.seeds, 0) + round(beyond)
        return min(MOST_AT_ONCE, most - len(self.losses))

    @property
    def in_basin(self) -> np.ndarray:
        """The rates in the basin."""
        return self.x_K[basin_window(self.x_K, self.loss_K)]

    def repeats(self, x: float) -> int:
        return sum(run.log2_lr == x for run in self.losses)

    def fill(self) -> list[Run]:
        """Untried rates next to the best one, the nearest first."""
        best = self.x_K[np.argmin(self.loss_K)]
        around = [
            best + sign * steps * self.spacing / LATTICE
            for steps in (1, 2, 3, 4)
            for sign in (-1, 1)
        ]
        return self.runs_at(around)[: self.room]


@dataclass(frozen=True)
class Wells:
    """The wells of one group: (log2 η*, h) by width, and the skew."""

    of: dict[int, tuple[float, float]]
    skew: float

    def gradient(self, width: int, x) -> np.ndarray:
        """Derivatives of the loss at log2 rates ``x`` (C,) by L*, ln η*, h of each width and the
        skew: (C, 3W + 1)."""
        (at, h), s, i = self.of[width], self.skew, 3 * sorted(self.of).index(width)
        u_C = (np.atleast_1d(x) - at) * LN2
        g_Cx = np.zeros((len(u_C), 3 * len(self.of) + 1))
        g_Cx[:, i : i + 3] = np.stack(
            [np.ones_like(u_C), -h * u_C * exprel(s * u_C), u_C**2 * phi2(s * u_C)], axis=1
        )
        g_Cx[:, -1] = h * u_C**2 * (phi2((s + 1e-4) * u_C) - phi2((s - 1e-4) * u_C)) / 2e-4
        return g_Cx

    def rise(self, width: int, x) -> np.ndarray:
        """Nats above the optimum."""
        at, h = self.of[width]
        u = (x - at) * LN2
        return h * u**2 * phi2(self.skew * u)


@functools.lru_cache(maxsize=512)
def _next_runs(plan: Plan, known: tuple[tuple[Run, float], ...]) -> tuple[Run, ...]:
    """The runs that follow once all of ``known`` are done; none where the plan is complete."""
    losses = {run: loss if np.isfinite(loss) else np.inf for run, loss in known}
    cells = [
        Cell(plan, g, w, grid, {run: v for run, v in losses.items() if run[:2] == (g, w)})
        for g, w, grid in sorted(plan.grids)
    ]
    groups = [[c for c in cells if c.group == g] for g in sorted({c.group for c in cells})]
    new = []
    for group in groups:
        wells = _fit(group)
        for i, cell in enumerate(group):
            if not cell.losses and (
                i == 0 or (group[i - 1].losses and not group[i - 1].outwards())
            ):
                new += cell.start(_expected(cell, group[:i], wells))
            elif cell.losses and cell.edge:
                new += cell.outwards()
            elif cell.losses and (len(cell.in_basin) < LEAST_RATES or cell.width not in wells.of):
                new += cell.fill()
    if new or not losses:
        return tuple(new)
    span = _spans(losses)
    return tuple(run for group in groups for run in _sharpen(group, _fit(group), span, plan.target))


def _fit(group: list[Cell]) -> Wells:
    rows = [
        (run.width, run.log2_lr, run.seed, loss)
        for c in group
        if c.bracketed
        for run, loss in c.losses.items()
    ]
    if rows:
        points = gather(pd.DataFrame(rows, columns=["width", "log2_lr", "seed", "loss"]), "width")
        part = points.take(points.reason_W == "")
        if len(part.scale_W):
            skew = common_skew(part)
            fit = WellFit(part, skew)(part.loss_WxP[None])
            wells = zip(
                part.scale_W,
                part.origin_W + fit.u_BxW[0] / LN2,
                fit.h_BxW[0],
                part.tried_Wx2,
                strict=True,
            )
            return Wells(
                {
                    int(w): (float(x), float(h))
                    for w, x, h, (low, high) in wells
                    if low <= x <= high
                },
                skew,
            )
    return Wells({}, SKEW_PRIOR[0])


def _expected(cell: Cell, narrower: list[Cell], wells: Wells) -> float | None:
    """As far from the middle of its grid as the optimum of the nearest narrower width is from that
    of its own."""
    for other in reversed(narrower):
        if other.width in wells.of:
            return (
                wells.of[other.width][0]
                + (cell.grid[0] + cell.grid[-1] - other.grid[0] - other.grid[-1]) / 2
            )
    return None


def _spans(losses: Mapping[Run, float]) -> dict[tuple[int, int], float]:
    """Width of the interval of log2 η*, octaves, by group and width."""
    table = pd.DataFrame(
        [(*run, loss) for run, loss in losses.items()],
        columns=["parameterization", "width", "log2_lr", "seed", "loss"],
    )
    found = basins(table, bootstraps=BOOTSTRAPS)
    spans = (found.log2_lr_high - found.log2_lr_low).fillna(np.inf)
    return dict(zip(zip(found.parameterization, found.width, strict=True), spans, strict=True))


def _sharpen(
    group: list[Cell], wells: Wells, span: Mapping[tuple[int, int], float], target: float
) -> list[Run]:
    """The next runs of a group: those that shrink the intervals above the target most, all widths
    together."""
    spans = {c.width: span[c.group, c.width] for c in group if c.width in wells.of}
    wide = [w for w, value in spans.items() if value > target]
    left = {c.width: c.room for c in group}
    candidates = [
        (run, weight) for c in group if c.width in wells.of for run, weight in _candidates(c, wells)
    ]
    if not wide or not candidates:
        return []
    at = {w: 3 * i + 1 for i, w in enumerate(sorted(wells.of))}
    g_Cx = np.concatenate([wells.gradient(run.width, run.log2_lr) for run, _ in candidates])
    weight_C = np.array([weight for _, weight in candidates])
    C = np.linalg.inv(_information(group, wells))
    first = {w: C[at[w], at[w]] for w in wide}
    chosen: list[Run] = []
    while len(chosen) < MOST_AT_ONCE * len(wide):
        wide = [
            w for w in wide if min(spans[w], 9.0) * np.sqrt(C[at[w], at[w]] / first[w]) > target
        ]
        free_C = np.array([run not in chosen and left[run.width] > 0 for run, _ in candidates])
        if not wide or not free_C.any():
            break
        Cg_Cx = g_Cx @ C
        loss_C = 1 + weight_C * (Cg_Cx * g_Cx).sum(1)
        shrunk_C = sum(
            np.sqrt(C[at[w], at[w]])
            - np.sqrt(C[at[w], at[w]] - weight_C * Cg_Cx[:, at[w]] ** 2 / loss_C)
            for w in wide
        )
        k = int(np.argmax(np.where(free_C, shrunk_C, -1.0)))
        chosen.append(candidates[k][0])
        left[candidates[k][0].width] -= 1
        C = C - weight_C[k] * np.outer(Cg_Cx[k], Cg_Cx[k]) / loss_C[k]
    return chosen


def _candidates(cell: Cell, wells: Wells) -> list[tuple[Run, float]]:
    """Runs that would lie in the basin, and their weights: new rates, and further seeds of those
    tried."""
    if not cell.bracketed:
        return []
    x_C = np.arange(cell.low, cell.high + 1e-9, cell.spacing / LATTICE)
    bad = ~(cell.loss_K - cell.loss_K.min() <= RISE_NATS)
    centre = middle(cell.x_K, cell.loss_K)
    below, above = cell.x_K[bad & (cell.x_K < centre)], cell.x_K[bad & (cell.x_K > centre)]
    inside = (
        (np.abs(x_C - centre) <= REACH_OCTAVES + 1e-6)
        & (wells.rise(cell.width, x_C) <= 0.8 * RISE_NATS)
        & (x_C > below.max(initial=-np.inf))
        & (x_C < above.min(initial=np.inf))
    )
    found = []
    for x in map(cell.rate, x_C[inside]):
        n = cell.repeats(x)
        if n == 0 and abs(x - wells.of[cell.width][0]) >= FLAT_BOTTOM * cell.spacing:
            found += [(run, 1.0) for run in cell.runs_at([x])]
        elif 0 < n < cell.plan.most_seeds:
            found.append((Run(cell.group, cell.width, x, n), REPEAT_WEIGHT))
    return found


def _information(group: list[Cell], wells: Wells) -> np.ndarray:
    """Fisher information of the runs in the group's basins, in units of one run's noise."""
    J = np.diag([1e-6] * (3 * len(wells.of)) + [(NOMINAL_NOISE / SKEW_PRIOR[1]) ** 2])
    for cell in group:
        if cell.width in wells.of:
            x_K = cell.in_basin
            g_Kx = wells.gradient(cell.width, x_K)
            J += (g_Kx.T * [1 + REPEAT_WEIGHT * (cell.repeats(x) - 1) for x in x_K]) @ g_Kx
    return J
