"""The optimizers that a run can name, and what training asks of each: the place to add one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.optimizers import Optimizer
from hpt.runs.train_config import TrainConfig, has_role_factors
from hpt.training import adamw
from hpt.training.adamw import StackedAdamW


@dataclass(frozen=True)
class OptimizerKind:
    """What training asks of an optimizer.

    Attributes
    ----------
    rates: the optimizer of :func:`hpt.param_groups` whose rates it takes.
    make: groups of :func:`hpt.param_groups`, configuration, device → the optimizer of one run.
    state_bytes: of its state, for each parameter.
    stacked: as :class:`hpt.training.adamw.StackedAdamW`, the optimizer of a stack; None where
        nobody wrote it.
    """

    rates: Optimizer
    make: Callable[..., torch.optim.Optimizer]
    state_bytes: int
    stacked: type[StackedAdamW] | None = None


OPTIMIZERS = {"adamw": OptimizerKind("adamw", adamw.make, adamw.STATE_BYTES, StackedAdamW)}


def optimizer_of(c: TrainConfig) -> OptimizerKind:
    """The run's optimizer.  Raises ConfigError for a name that is not in ``OPTIMIZERS``."""
    if c.optimizer not in OPTIMIZERS:
        raise ConfigError(f"no run can be trained by {c.optimizer!r}.", did_you_mean(c.optimizer, OPTIMIZERS))
    return OPTIMIZERS[c.optimizer]


def only_alone(c: TrainConfig) -> str:
    """Why such runs train one at a time and by plain steps alone; "" where stacks and compiled steps
    can have them."""
    if optimizer_of(c).stacked is None:
        return f"optimizer={c.optimizer!r}"
    if has_role_factors(c):
        return f"exponential_warmup={c.exponential_warmup}, embedding_boost={c.embedding_boost!r}"
    return ""


def stacked_optimizer_of(c: TrainConfig) -> type[StackedAdamW]:
    """The optimizer of a stack of such runs.  Raises ConfigError where there is none."""
    reason = only_alone(c)
    if reason:
        raise ConfigError(
            f"{reason} has no step for stacks and compiled programs.",
            "it was written for one run at a time",
            "hpt.train(config), or a study with stack=False, compiled=False",
        )
    return optimizer_of(c).stacked
