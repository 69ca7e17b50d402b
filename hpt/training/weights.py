"""The weights of R members with all that an optimizer keeps of them, in groups of equal rates: what a
step reads and changes.

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpt.parameterization.rules import Role


@dataclasses.dataclass
class Group:
    """Parameters of one role with equal rates, flat side by side, a row a member.

    Attributes
    ----------
    role: of the parameters.
    shapes: of the parameters, by name, without the members' axis.
    eps: Adam's ε.
    weight: RxP.
    lr, decay: peak learning rates and weight decays, each Rx1.
    moments: the optimizer's, each RxP.
    """

    role: Role
    shapes: dict[str, torch.Size]
    eps: float
    weight: Tensor
    lr: Tensor
    decay: Tensor
    moments: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        return [self.weight, self.lr, self.decay, *self.moments]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Group:
        """The same with others in place of :attr:`tensors`."""
        weight, lr, decay, *moments = tensors
        return dataclasses.replace(self, weight=weight, lr=lr, decay=decay, moments=moments)

    def views(self, flat_RxP: Tensor) -> list[Tensor]:
        """Each parameter's part of ``flat_RxP`` in its own shape, behind the members' axis."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = zip(flat_RxP.split(sizes, dim=1), self.shapes.values(), strict=True)
        return [part.view(len(part), *shape) for part, shape in parts]

    def decayed(self, lr_factor: Tensor, decay_factor: Tensor) -> Tensor:
        """The learning rates of a step, Rx1, once its weight decay, decoupled from the gradient, is done."""
        lr_Rx1 = self.lr * lr_factor
        self.weight.addcmul_(self.weight, lr_Rx1 * self.decay * decay_factor, value=-1)
        return lr_Rx1

    @functools.cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters, as views of ``weight``."""
        return self.views(self.weight)

    @functools.cached_property
    def of_one(self) -> list[list[Tensor]]:
        """Of a run alone: its parameters, and each of their moments, as views without the members' axis."""
        return [[x[0] for x in self.views(flat_RxP)] for flat_RxP in (self.weight, *self.moments)]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Those of a group, each behind the members' axis, side by side as its weights are: RxP."""
    rows = [x.reshape(len(x), -1) for x in tensors]
    return torch.cat(rows, dim=1)


def named_weights(groups: Sequence[Group]) -> dict[str, Tensor]:
    """All members' parameters by name, behind the members' axis."""
    named = (zip(group.shapes, group.parameters, strict=True) for group in groups)
    return dict(itertools.chain.from_iterable(named))


def all_tensors(groups: Sequence[Group]) -> list[Tensor]:
    """Those of all groups."""
    return [tensor for group in groups for tensor in group.tensors]


def with_tensors(groups: Sequence[Group], tensors: Iterable[Tensor]) -> list[Group]:
    """The same groups with others in place of :func:`all_tensors`."""
    given = iter(tensors)
    return [group.with_tensors([next(given) for _ in group.tensors]) for group in groups]


def member_groups(
    members: Sequence[nn.Module],
    rates: Sequence[list[dict[str, Any]]],
    eps: float,
    moments: int,
    device: torch.device,
) -> list[Group]:
    """The members' initial weights, with moments of zero.

    Parameters
    ----------
    members: each one's model; members of one seed may share it.
    rates: each one's groups, of :func:`hpt.param_groups` for its model.
    eps: Adam's ε, where these carry none.
    moments: how many the optimizer keeps.
    device: where they are to train.
    """
    weights = [dict(model.named_parameters()) for model in members]
    groups = []
    for (role, rates_Rx3), names in _equal_rates(weights, rates, eps).items():
        rows = [torch.cat([own[name].detach().flatten() for name in names]) for own in weights]
        weight_RxP = torch.stack(rows).to(device)
        zeros = [torch.zeros_like(weight_RxP) for _ in range(moments)]
        lr_R, decay_R, eps_R = zip(*rates_Rx3, strict=True)
        lr_Rx1, decay_Rx1 = (torch.tensor(x_R, device=device)[:, None] for x_R in (lr_R, decay_R))
        shapes = {name: weights[0][name].shape for name in names}
        groups.append(Group(role, shapes, eps_R[0], weight_RxP, lr_Rx1, decay_Rx1, zeros))
    return groups


def role_of(group: dict[str, Any]) -> Role:
    """The role of a group of :func:`hpt.param_groups`."""
    return group["name"].partition(".")[0]


def _equal_rates(weights, rates, eps):
    """Names of parameters that have the same role and in every member the same learning rate, weight
    decay and ε, by role and these, Rx3."""
    found = defaultdict(list)
    for own, groups in zip(weights, rates, strict=True):
        name_of = {parameter: name for name, parameter in own.items()}
        for group in groups:
            for parameter in group["params"]:
                own_rates = group["lr"], group["weight_decay"], group.get("eps", eps)
                found[name_of[parameter], role_of(group)].append(own_rates)
    alike = defaultdict(list)
    for (name, role), rates_Rx3 in found.items():
        alike[role, tuple(rates_Rx3)].append(name)
    return alike
