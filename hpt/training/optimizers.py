"""The optimizers that a run can name, and what training asks of each: the place to add one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hpt.errors import ConfigError, did_you_mean
from hpt.parameterization.optimizers import Optimizer
from hpt.runs.train_config import TrainConfig, has_role_factors
from hpt.training import adamw, lion, muon, sgd
from hpt.training.adamw import StackedAdamW
from hpt.training.weights import Group, role_of


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


#: Changes weights and moments of a group in place, given the gradients by parameter (behind the members'
#: axis), the configuration, and numbers of the step: factors on the learning rate and on the weight decay,
#: the step from 1, and the optimizer's own.
Update = Callable[[Group, Sequence[Tensor], TrainConfig, Tensor], None]


class ByUpdate(torch.optim.Optimizer):
    """The optimizer of one run from its update."""

    def __init__(self, groups, update: Update, moments: int, c: TrainConfig, scalars):
        super().__init__(groups, {})
        self.update, self.c, self.scalars = update, c, scalars
        self.t = 0
        self.moments = [
            [torch.zeros_like(flat_1xP(group["params"])) for _ in range(moments)]
            for group in self.param_groups
        ]

    @torch.no_grad()
    def step(self):
        self.t += 1
        for group, moments in zip(self.param_groups, self.moments, strict=True):
            parameters = group["params"]
            weight_1xP = flat_1xP(parameters)
            own = Group(
                role=role_of(group),
                shapes={i: p.shape for i, p in enumerate(parameters)},
                eps=group["eps"],
                weight=weight_1xP,
                lr=weight_1xP.new_tensor([[group["lr"]]]),
                decay=weight_1xP.new_tensor([[group["weight_decay"]]]),
                moments=moments,
            )
            numbers = [1.0, 1.0, self.t]
            numbers += self.scalars(self.c, self.t)
            grads = [p.grad[None] for p in parameters]
            self.update(own, grads, self.c, weight_1xP.new_tensor(numbers))
            for p, new in zip(parameters, own.parameters, strict=True):
                p.copy_(new[0])


def flat_1xP(parameters) -> Tensor:
    """Parameters of one member, flat side by side."""
    return torch.cat([p.detach().flatten() for p in parameters])[None]


def _by_update(rates, update, moments, scalars=lambda c, t: ()):
    """The kind of an optimizer that is known by its update."""

    def make(groups, c, device):
        return ByUpdate(groups, update, moments, c, scalars)

    return OptimizerKind(rates, make, 4 * moments)


OPTIMIZERS = {
    "adamw": OptimizerKind("adamw", adamw.make, adamw.STATE_BYTES, StackedAdamW),
    "muon": _by_update("muon", muon.update, 2, adamw.corrections),
    "muon-match-rms": _by_update("muon-match-rms", muon.update, 2, adamw.corrections),
    "lion": _by_update("lion", lion.update, 1),
    "sgd": _by_update("sgd", sgd.update, 1),
}


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
