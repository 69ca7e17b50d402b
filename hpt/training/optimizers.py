"""The optimizers that a run can name, and what training asks of each: the place to add one.

An optimizer is one function: its update of the weights of R members, given their gradients. It serves every
form that a step has.

Shapes: R members, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.optimizers import Optimizer
from hpt.parameterization.rules import Role
from hpt.runs.train_config import TrainConfig, lr_factor, role_factor
from hpt.training import adamw, lion, muon, sgd
from hpt.training.weights import Group

#: Changes weights and moments of a group in place, given the gradients by parameter (behind the members'
#: axis, as ``group.views``), the configuration, and its numbers of :func:`step_scalars`. It asks for no
#: tensor's value.
Update = Callable[[Group, Sequence[Tensor], TrainConfig, Tensor], None]


@dataclass(frozen=True)
class OptimizerKind:
    """What training asks of an optimizer.

    Attributes
    ----------
    rates: the optimizer of :func:`hpt.param_groups` whose rates it takes.
    update: its step.
    moments: how many numbers it keeps of each parameter.
    scalars: configuration, step from 1 → further numbers that all members share at that step.
    eager_update: a faster ``update`` for a run alone on a CPU that is not compiled; it may ask for values.
    """

    rates: Optimizer
    update: Update
    moments: int
    scalars: Callable[[TrainConfig, int], Sequence[float]] = lambda c, t: ()
    eager_update: Update | None = None


OPTIMIZERS = {
    "adamw": OptimizerKind("adamw", adamw.update, 2, adamw.corrections, adamw.update_in_one_pass),
    "muon": OptimizerKind("muon", muon.update, 2, adamw.corrections),
    "muon-match-rms": OptimizerKind("muon-match-rms", muon.update, 2, adamw.corrections),
    "lion": OptimizerKind("lion", lion.update, 1),
    "sgd": OptimizerKind("sgd", sgd.update, 1),
}


def optimizer_of(c: TrainConfig) -> OptimizerKind:
    """The run's optimizer.  Raises ConfigError for a name that is not in ``OPTIMIZERS``."""
    if c.optimizer not in OPTIMIZERS:
        raise ConfigError(f"no run can be trained by {c.optimizer!r}.", did_you_mean(c.optimizer, OPTIMIZERS))
    return OPTIMIZERS[c.optimizer]


def step_scalars(c: TrainConfig, roles: Sequence[Role], steps: int, m: float) -> Tensor:
    """What all members share at each step, for each role of ``roles``, S x len(roles) x numbers: the factors
    on its learning rate and on its weight decay, the step from 1, and the optimizer's own.

    ``m`` is the run's width over its base width.
    """
    own = optimizer_of(c).scalars
    return torch.tensor(
        [
            [(*_factors(c, role, t - 1, steps, m), t, *own(c, t)) for role in roles]
            for t in range(1, steps + 1)
        ]
    )


def _factors(c, role, step, steps, m):
    """On the learning rate and the weight decay of a role: decay that does not follow the group's rate does
    not follow its schedule either."""
    own = role_factor(c, role, step, steps, m)
    return lr_factor(c, step, steps) * own, 1.0 if c.decay == "coupled" else 1 / own
