"""Lion: each entry moves by the sign of a momentum (Chen et al. 2023, arXiv 2302.06675).

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hpt.runs.train_config import TrainConfig
from hpt.training.weights import Group, flat


def update(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_3: Tensor) -> None:
    """A step of all members, each at its rates; see :data:`hpt.training.optimizers.Update`."""
    lr_factor, decay_factor, _ = scalars_3
    grad_RxP = flat(grads)
    (mean_RxP,) = group.moments
    lr_Rx1 = group.decayed(lr_factor, decay_factor)
    group.weight.addcmul_(mean_RxP.lerp(grad_RxP, 1 - c.beta1).sign_(), lr_Rx1, value=-1)
    mean_RxP.lerp_(grad_RxP, 1 - c.beta2)
