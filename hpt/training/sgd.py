"""SGD with momentum, its weight decay apart from the gradient as AdamW's is (Loshchilov & Hutter 2019,
SGDW).

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hpt.runs.train_config import TrainConfig
from hpt.training.weights import Group, flat

#: Momentum where the configuration names none.
MOMENTUM = 0.9


def update(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_3: Tensor) -> None:
    """A step of all members, each at its rates; see :data:`hpt.training.optimizers.Update`."""
    lr_factor, decay_factor, _ = scalars_3
    grad_RxP = flat(grads)
    (momentum_RxP,) = group.moments
    lr_Rx1 = group.decayed(lr_factor, decay_factor)
    momentum_RxP.mul_(MOMENTUM if c.momentum is None else c.momentum).add_(grad_RxP)
    group.weight.addcmul_(momentum_RxP, lr_Rx1, value=-1)
