"""The weights of R members with all that an optimizer keeps of them, in groups of equal rates: what a
step reads and changes.

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor

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

    def views(self, flat_RxP: Tensor) -> list[Tensor]:
        """Each parameter's part of ``flat_RxP`` in its own shape, behind the members' axis."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = zip(flat_RxP.split(sizes, dim=1), self.shapes.values(), strict=True)
        return [part.view(len(part), *shape) for part, shape in parts]

    @functools.cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters, as views of ``weight``."""
        return self.views(self.weight)


def role_of(group: dict[str, Any]) -> Role:
    """The role of a group of :func:`hpt.param_groups`."""
    return group["name"].partition(".")[0]
