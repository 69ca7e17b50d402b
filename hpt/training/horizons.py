"""Several training horizons from one run: a warm-up–stable–decay trunk, with a decay branched off
for each.

The schedule "wsd" does not know its end before the decay starts, so runs that differ in their
budget alone take the same steps until then. Training them together costs the longest run and the
decays of the others: for horizons of 200, 400 and 800 steps with a decay over the last fifth, 920
steps in place of 1400.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import ConfigError
from hpt.files import StrPath
from hpt.parameterization.rules import ROLES
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, run_steps
from hpt.runs.store import Store
from hpt.runs.train_config import TrainConfig, lr_factor, role_factor
from hpt.training.loop import Training


def train_horizons(
    config: RunConfig,
    steps: Sequence[int] = (),
    *,
    tokens_per_parameter: Sequence[float] = (),
    store: StrPath | Store | None = None,
    data: TokenSource | None = None,
    device: str = "auto",
) -> list[RunResult]:
    """Train one configuration for several budgets, with one trunk for all.

    Each result is the one that :func:`hpt.train` gives for the configuration with that budget: same
    ``run_id``, training losses and validation loss, bit for bit on the same machine with as many
    threads. That holds because nothing but the learning rate depends on the budget, and the
    learning rate does from its decay on alone: initial weights and batches follow the seed and the
    step, the warm-up is a fixed number of steps, and each kind of weight decay acts through the
    learning rate or its peak. Where each branches off is read off the learning rates themselves.
    ``data`` has to keep the promise of :class:`hpt.data.batches.TokenSource`: a batch is a function
    of its arguments alone.

    Parameters
    ----------
    config: the run; its budget is replaced, its schedule has to be "wsd".
    steps: horizons in optimizer steps.
    tokens_per_parameter: horizons as training tokens over parameters, after those in steps; one
        model turns each into a fixed number of steps.
    store: where to keep the records, as a study does; horizons that it holds are not trained again,
        and each is saved as soon as it is done. A study of one of the budgets finds them there.
    data, device: as in :func:`hpt.train`.

    Returns
    -------
    One result for each horizon, in the order given. ``seconds`` is what the run's own steps took,
    those on the trunk included: about what it would have taken alone. So their sum is more than
    this call takes.

    Raises
    ------
    ConfigError: for no horizon, one shorter than the warm-up, another schedule than "wsd", or a
        dose of weight decay or diagnostics, which differ from horizon to horizon.
    """
    if config.train.schedule != "wsd":
        raise ConfigError(
            f"schedule={config.train.schedule!r} has no trunk that several horizons could share.",
            "after the warm-up each of its learning rates depends on the number of steps",
            'schedule="wsd", or hpt.train for each horizon',
        )
    if config.train.diagnostics:
        raise ConfigError(
            f"diagnostics={config.train.diagnostics} looks into each horizon at steps of its own.",
            "a trunk is trained once",
            "diagnostics=0, or hpt.train for each horizon",
        )
    if config.train.dose:
        raise ConfigError(
            f"dose={config.train.dose} gives each horizon a weight decay of its own.",
            "λ is dose/(η·steps), so that no trunk could be shared",
            "weight_decay=…, or hpt.train for each horizon",
        )
    budgets = [(count, None) for count in steps] + [(None, x) for x in tokens_per_parameter]
    configs = [_with_budget(config, *budget) for budget in budgets]
    if not configs:
        raise ConfigError(
            "train_horizons was given no horizon.", remedy="train_horizons(config, steps=[200, 400])"
        )
    data = data or load(config.data)
    by_id = {c.run_id(data.fingerprint): c for c in configs}
    results = {}
    with contextlib.ExitStack() as locks:
        if store is not None:
            store = Store.at(store)
            # In one order for all, so that no two jobs wait for each other.
            for run_id in sorted(by_id):
                locks.enter_context(store.lock(run_id))
                results[by_id[run_id]] = store.load(run_id)
        missing = [c for c in by_id.values() if results.get(c) is None]
        for result in _train_family(missing, data, device):
            if store is not None:
                store.save(result)
            results[result.config] = result
    return [results[c] for c in configs]


def _with_budget(config, steps, tokens_per_parameter):
    train = dataclasses.replace(config.train, steps=steps, tokens_per_parameter=tokens_per_parameter)
    return dataclasses.replace(config, train=train)


def branch_step(c: TrainConfig, steps: int, longest: int) -> int:
    """The first step at which a run of ``steps`` has another learning rate than one of ``longest``,
    or ``steps``."""
    parted = (t for t in range(steps) if _rates(c, t, steps) != _rates(c, t, longest))
    return next(parted, steps)


def _rates(c, step, steps):
    """What decides the learning rates of all roles at a step."""
    return lr_factor(c, step, steps), *(role_factor(c, role, step, steps, 2.0) for role in ROLES)


def _train_family(configs, data, device):
    """Results of configurations that differ in budget alone, shortest first."""
    if not configs:
        return
    *shorter, longest = sorted(configs, key=run_steps)
    with contextlib.closing(Training([longest], data, pick_device(device))) as trunk:
        for config in shorter:
            trunk.advance(branch_step(config.train, run_steps(config), trunk.steps))
            with contextlib.closing(trunk.branch(config)) as branch:
                yield from branch.finish()
        yield from trunk.finish()
