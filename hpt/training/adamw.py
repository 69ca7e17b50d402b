"""All that rests on AdamW (Loshchilov & Hutter 2019): its update of R members, each with learning
rates and weight decays of its own, and what it keeps of them.

Shapes: R members, P entries of the parameters that share their rates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw as torchs_adamw

from hpt.runs.train_config import TrainConfig
from hpt.training.weights import Group, flat


def corrections(c: TrainConfig, t: int) -> tuple[float, float]:
    """Adam's bias corrections at step ``t``, from 1: 1 − β₁ᵗ and 1 − β₂ᵗ."""
    return 1 - c.beta1**t, 1 - c.beta2**t


def update(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_5: Tensor) -> None:
    """A step of all members, each at its rates; see :data:`hpt.training.optimizers.Update`."""
    lr_factor, decay_factor, _, debias1, debias2 = scalars_5
    grad_RxP = flat(grads)
    mean_RxP, square_RxP = group.moments
    lr_Rx1 = group.decayed(lr_factor, decay_factor)
    mean_RxP.lerp_(grad_RxP, 1 - c.beta1)
    square_RxP.mul_(c.beta2).addcmul_(grad_RxP, grad_RxP, value=1 - c.beta2)
    root_RxP = square_RxP.sqrt().div_(debias2.sqrt()).add_(group.eps)
    group.weight.addcdiv_(lr_Rx1 / debias1 * mean_RxP, root_RxP, value=-1)


def update_in_one_pass(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_5: Tensor) -> None:
    """The same for a run alone on a CPU, by torch's own kernel: one pass over memory, and none for itself."""
    lr_factor, decay_factor, t, *_ = scalars_5.tolist()
    weights, means, squares = group.of_one
    torchs_adamw(
        weights,
        # The kernel reads them as they lie in memory.
        [grad[0].contiguous() for grad in grads],
        means,
        squares,
        max_exp_avg_sqs=[],
        # It counts steps itself, in a tensor a parameter.
        state_steps=list(torch.full((len(grads),), t - 1).unbind()),
        amsgrad=False,
        beta1=c.beta1,
        beta2=c.beta2,
        lr=float(group.lr * lr_factor),
        weight_decay=float(group.decay * decay_factor),
        eps=group.eps,
        maximize=False,
        fused=True,
    )
