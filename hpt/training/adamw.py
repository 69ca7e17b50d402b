"""All that rests on AdamW: the optimizer of one run, the step of a stack of runs, each with learning
rates and weight decays of its own, and the size of their state (Loshchilov & Hutter 2019).

Shapes: R members, P entries of the parameters that share their rates, S steps.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpt.runs.train_config import TrainConfig, lr_factor
from hpt.training.weights import Group

#: Bytes of the two moments of a parameter, fp32.
STATE_BYTES = 8


def make(groups: list[dict[str, Any]], c: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of one run, for groups of :func:`hpt.param_groups`."""
    fused = device.type != "mps"
    return torch.optim.AdamW(groups, betas=(c.beta1, c.beta2), eps=c.eps, fused=fused)


def corrections(c: TrainConfig, t: int) -> tuple[float, float]:
    """Adam's bias corrections at step ``t``, from 1: 1 − β₁ᵗ and 1 − β₂ᵗ."""
    return 1 - c.beta1**t, 1 - c.beta2**t


def update(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_5: Tensor) -> None:
    """A step of all members, each at its rates; see :data:`hpt.training.optimizers.Update`."""
    lr_factor, decay_factor, _, debias1, debias2 = scalars_5
    grad_RxP = torch.cat([grad.flatten(1) for grad in grads], dim=1)
    lr_Rx1 = group.lr * lr_factor
    shrink_Rx1 = lr_Rx1 * group.decay * decay_factor
    tensors = (group.weight, *group.moments)
    _step(tensors, grad_RxP, lr_Rx1, shrink_Rx1, group.eps, c, debias1, debias2)


def _step(tensors, grad_RxP, lr_Rx1, shrink_Rx1, eps, c, debias1, debias2):
    """A step of torch.optim.AdamW: weights, their mean gradient and its mean square change in place."""
    weight_RxP, mean_RxP, square_RxP = tensors
    weight_RxP.addcmul_(weight_RxP, shrink_Rx1, value=-1)
    mean_RxP.lerp_(grad_RxP, 1 - c.beta1)
    square_RxP.mul_(c.beta2).addcmul_(grad_RxP, grad_RxP, value=1 - c.beta2)
    root_RxP = square_RxP.sqrt().div_(debias2.sqrt()).add_(eps)
    weight_RxP.addcdiv_(lr_Rx1 / debias1 * mean_RxP, root_RxP, value=-1)


@dataclasses.dataclass
class StackedGroup:
    """Parameters with the same rates, flat side by side, a row a member.

    Attributes
    ----------
    shapes: of the parameters, by name.
    eps: Adam's ε.
    state: what a step reads and changes: weights, Adam's two moments (each RxP), learning rates and
        weight decays (each Rx1).
    """

    shapes: dict[str, torch.Size]
    eps: float
    state: list[Tensor]

    def named(self, weight_P) -> dict[str, Tensor]:
        """One member's parameters: views of its row."""
        parts = weight_P.split([math.prod(shape) for shape in self.shapes.values()])
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}

    def named_in_all(self) -> dict[str, Tensor]:
        """All members' parameters, behind their axis."""
        parts = self.state[0].split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        named = zip(self.shapes.items(), parts, strict=True)
        return {name: part.unflatten(1, shape) for (name, shape), part in named}

    def step(self, grad_RxP, c, scalars_3) -> None:
        """A step of torch.optim.AdamW at each member's rates; the scalars are a row of
        :func:`step_scalars`."""
        factor, debias1, debias2 = scalars_3
        *tensors, peak_Rx1, decay_Rx1 = self.state
        lr_Rx1 = peak_Rx1 * factor
        _step(tensors, grad_RxP, lr_Rx1, lr_Rx1 * decay_Rx1, self.eps, c, debias1, debias2)


def step_scalars(c: TrainConfig, steps: int) -> Tensor:
    """What all members share at each step, Sx3: the schedule's factor, and Adam's bias corrections
    1 − β₁ᵗ and 1 − β₂ᵗ."""
    rows = [(lr_factor(c, t - 1, steps), *corrections(c, t)) for t in range(1, steps + 1)]
    return torch.tensor(rows)


class StackedAdamW:
    """The weights of a stack, in groups of equal rates, and the steps that they take.

    Parameters
    ----------
    members: each one's model with its initial weights; members of one seed may share it.
    rates: each one's groups, of :func:`hpt.param_groups` for its model.
    c: of any of them, for all that is the same in a stack.
    steps: how many there will be.
    device: where they are to train.
    by_role: whether roles with the same rates get groups of their own, so that groups hang less on
        the parameterization.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        rates: Sequence[list[dict[str, Any]]],
        c: TrainConfig,
        steps: int,
        device: torch.device,
        by_role: bool = False,
    ):
        self.c = c
        self.scalars_Sx3 = step_scalars(c, steps).to(device)
        weights = [dict(model.named_parameters()) for model in members]
        self.groups = []
        for rates_Rx4, names in _equal_rates(weights, rates, c.eps, by_role).items():
            rows = [torch.cat([own[name].detach().flatten() for name in names]) for own in weights]
            weight_RxP = torch.stack(rows).to(device)
            moments = [torch.zeros_like(weight_RxP) for _ in range(2)]
            _, lr_R, decay_R, eps_R = zip(*rates_Rx4, strict=True)
            own_rates = [torch.tensor(x_R, device=device)[:, None] for x_R in (lr_R, decay_R)]
            shapes = {name: weights[0][name].shape for name in names}
            self.groups.append(StackedGroup(shapes, eps_R[0], [weight_RxP, *moments, *own_rates]))

    @property
    def weights(self) -> list[Tensor]:
        """Of each group, RxP."""
        return [group.state[0] for group in self.groups]

    @property
    def state(self) -> list[Tensor]:
        """All that a step reads and changes."""
        return [tensor for group in self.groups for tensor in group.state]

    def with_state(self, state: Iterable[Tensor]) -> StackedAdamW:
        """The same with other tensors for its ``state``."""
        tensors = iter(state)
        twin = copy.copy(self)
        twin.groups = [
            dataclasses.replace(group, state=[next(tensors) for _ in group.state]) for group in self.groups
        ]
        return twin

    def named(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """One member's parameters by name, from its row of each group's weights."""
        parameters = {}
        for group, weight_P in zip(self.groups, rows, strict=True):
            parameters |= group.named(weight_P)
        return parameters

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], scalars_3) -> None:
        """One step of all members, with gradients RxP of each group."""
        for group, grad_RxP in zip(self.groups, grads, strict=True):
            group.step(grad_RxP, self.c, scalars_3)

    @torch.no_grad()
    def keep(self, rows_R) -> None:
        """Drop the members where ``rows_R`` is False."""
        self.groups = self.with_state([tensor[rows_R] for tensor in self.state]).groups


def _equal_rates(weights, rates, eps, by_role):
    """Names of parameters that have the same rates in every member, by these rates: role, learning
    rate, weight decay and ε of each member, Rx4."""
    rates_of = defaultdict(list)
    for own, groups in zip(weights, rates, strict=True):
        name_of = {parameter: name for name, parameter in own.items()}
        for group in groups:
            role = group["name"] if by_role else ""
            found = (role, group["lr"], group["weight_decay"], group.get("eps", eps))
            for parameter in group["params"]:
                rates_of[name_of[parameter]].append(found)
    alike = defaultdict(list)
    for name, rates_Rx4 in rates_of.items():
        alike[tuple(rates_Rx4)].append(name)
    return alike
