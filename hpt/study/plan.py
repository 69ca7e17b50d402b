"""Which runs a study will ask for, before their losses are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hpt.runs.run_config import RunConfig

#: A study's plan: from losses known so far to all runs they ask for, see :meth:`hpt.Study.plan`.
Plan = Callable[[dict[RunConfig, float]], Sequence[RunConfig]]


def forecast(
    plan: Plan, losses: Mapping[RunConfig, float]
) -> tuple[list[RunConfig], list[RunConfig], int]:
    """Runs to train now; those that results will ask for if optima lie inside the grid; how many
    more at most.

    Parameters
    ----------
    plan: of the study.
    losses: of the runs that are done.
    """
    first = plan(dict(losses))
    now = [c for c in first if c not in losses]
    inside = _asked_for(plan, losses, _optimum_at(first, None))
    most = len(inside)
    for beyond in (
        itertools.count()
    ):  # the further out the optimum, the more learning rates are added, up to a limit
        asked = len(_asked_for(plan, losses, _optimum_at(first, beyond)))
        if asked <= most and beyond > 0:
            break
        most = max(most, asked)
    begun = set(now)
    return now, [c for c in inside if c not in begun], most - len(inside)


def _asked_for(
    plan: Plan, losses: Mapping[RunConfig, float], guess: Callable[[RunConfig], float]
) -> list[RunConfig]:
    """All runs that are missing, if each comes out as guessed."""
    known = dict(losses)
    while new := [c for c in plan(known) if c not in known]:
        known |= {c: guess(c) for c in new}
    return [c for c in known if c not in losses]


def _optimum_at(configs: Sequence[RunConfig], beyond: int | None) -> Callable[[RunConfig], float]:
    """A loss that is least in the middle of each grid, or so many of its steps beyond its upper
    edge."""
    rates: dict[tuple, set[float]] = {}
    for c in configs:
        rates.setdefault(_cell(c), set()).add(float(np.log2(c.train.lr)))
    best = {}
    for cell, grid in rates.items():
        spacing = min(np.diff(sorted(grid)), default=0.0)
        best[cell] = np.median(list(grid)) if beyond is None else max(grid) + beyond * spacing
    return lambda c: float(abs(np.log2(c.train.lr) - best[_cell(c)]))


def _cell(config: RunConfig) -> tuple:
    return config.parameterization, config.model.width, config.train.weight_decay
