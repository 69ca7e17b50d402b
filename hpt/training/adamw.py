"""AdamW for a stack of runs, each with learning rates and weight decays of its own.

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpt.parameterization.groups import param_groups
from hpt.runs.run_config import RunConfig


@dataclass
class StackedGroup:
    """Parameters with the same rates, flat side by side, a row a member; and Adam's moments of
    them."""

    shapes: dict[str, torch.Size]
    weight_RxP: Tensor
    lr_Rx1: Tensor
    decay_Rx1: Tensor
    eps: float

    def __post_init__(self):
        self.mean_RxP, self.square_RxP = (
            torch.zeros_like(self.weight_RxP),
            torch.zeros_like(self.weight_RxP),
        )

    def named(self, weight_P: Tensor) -> dict[str, Tensor]:
        """One member's parameters: views of its row."""
        parts = weight_P.split([math.prod(shape) for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    @torch.no_grad()
    def keep(self, rows_R: Tensor) -> None:
        """Drop the members where ``rows_R`` is False."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows_R])

    @torch.no_grad()
    def step(self, grad_RxP: Tensor, beta1: float, beta2: float, scalars_3: Tensor) -> None:
        """A step of torch.optim.AdamW at each member's rates; the scalars are those of
        :func:`step_scalars`."""
        factor, debias1, debias2 = scalars_3
        lr_Rx1 = self.lr_Rx1 * factor
        self.weight_RxP.addcmul_(self.weight_RxP, lr_Rx1 * self.decay_Rx1, value=-1)
        self.mean_RxP.lerp_(grad_RxP, 1 - beta1)
        self.square_RxP.mul_(beta2).addcmul_(grad_RxP, grad_RxP, value=1 - beta2)
        root_RxP = self.square_RxP.sqrt().div_(debias2.sqrt()).add_(self.eps)
        self.weight_RxP.addcdiv_(lr_Rx1 / debias1 * self.mean_RxP, root_RxP, value=-1)


def step_scalars(
    factor: float, step: int, beta1: float, beta2: float
) -> tuple[float, float, float]:
    """The schedule's factor at ``step`` (from 0) and Adam's bias corrections 1 − βᵗ, which all
    members share."""
    return factor, 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)


def stacked_groups(
    configs: Sequence[RunConfig],
    starts: dict[int, nn.Module],
    place: torch.device,
    by_role: bool = False,
) -> list[StackedGroup]:
    """The members' weights in groups of equal rates.

    Parameters
    ----------
    configs: the members, of one architecture and parameterization.
    starts: for each seed, the model with its initial weights.
    place: the device.
    by_role: whether roles with the same rates get groups of their own, so that groups hang less on
        the parameterization.
    """
    model = starts[configs[0].seed]
    names, rates_of, roles = (
        {p: name for name, p in model.named_parameters()},
        defaultdict(list),
        {},
    )
    for config in configs:
        c = config.train
        for group in param_groups(
            model, config.parameterization, lr=c.lr, weight_decay=c.weight_decay, decay=c.decay
        ):
            for p in group["params"]:
                rates_of[names[p]].append(
                    (group["lr"], group["weight_decay"], group.get("eps", c.eps))
                )
                roles[names[p]] = group["name"] if by_role else ""
    members_of = defaultdict(list)
    for name, rates in rates_of.items():
        members_of[roles[name], tuple(rates)].append(name)
    weights = {seed: dict(start.named_parameters()) for seed, start in starts.items()}
    groups = []
    for (_, rates), members in members_of.items():
        row_P = {
            seed: torch.cat([own[name].detach().flatten() for name in members])
            for seed, own in weights.items()
        }
        lr_R, decay_R, eps_R = zip(*rates, strict=True)
        groups.append(
            StackedGroup(
                {name: weights[configs[0].seed][name].shape for name in members},
                torch.stack([row_P[config.seed] for config in configs]).to(place),
                torch.tensor(lr_R, device=place)[:, None],
                torch.tensor(decay_R, device=place)[:, None],
                eps_R[0],
            )
        )
    return groups
