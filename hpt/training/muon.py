"""Muon for hidden matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): the momentum's
nearest orthogonal matrix is the step; AdamW for all else.

Its two scales, by name: "muon" multiplies by √max(1, fan_out/fan_in), so that the spectral norm of a step
does not hang on the width; "muon-match-rms" by 0.2·√max(fan_out, fan_in), so that its entries are as large
as AdamW's (Liu et al. 2025, arXiv 2502.16982).

Shapes: R members, A outputs and B inputs of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hpt.runs.train_config import TrainConfig
from hpt.training import adamw
from hpt.training.weights import Group

#: Of the quintic iteration, and how often: those of the authors, as in torch.optim.Muon.
COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
SMALLEST_NORM = 1e-7
#: Momentum where the configuration names none.
MOMENTUM = 0.95


def update(group: Group, grads: Sequence[Tensor], c: TrainConfig, scalars_5: Tensor) -> None:
    """A step of all members, each at its rates; see :data:`hpt.training.optimizers.Update`."""
    update_hidden = _update_hidden if group.role == "hidden" else adamw.update
    update_hidden(group, grads, c, scalars_5)


def _update_hidden(group, grads, c, scalars_5):
    lr_factor, decay_factor, *_ = scalars_5
    momentum = MOMENTUM if c.momentum is None else c.momentum
    lr_Rx1 = group.decayed(lr_factor, decay_factor)
    means = group.views(group.moments[0])
    for weight, mean, grad in zip(group.parameters, means, grads, strict=True):
        mean.lerp_(grad, 1 - momentum)
        step_RxAxB = orthogonalized(grad.lerp(mean, momentum))
        scale = step_scale(c.optimizer, *weight.shape[1:])
        weight.addcmul_(step_RxAxB, lr_Rx1[:, :, None] * scale, value=-1)


def step_scale(optimizer: str, fan_out: int, fan_in: int) -> float:
    """What a step of a matrix of that size is multiplied by."""
    if optimizer == "muon-match-rms":
        return 0.2 * math.sqrt(max(fan_out, fan_in))
    return math.sqrt(max(1, fan_out / fan_in))


def orthogonalized(x_RxAxB: Tensor) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ, nearly: its singular values come out between 0.7 and 1.2; in bf16."""
    a, b, c = COEFFICIENTS
    tall = x_RxAxB.shape[1] > x_RxAxB.shape[2]
    x = (x_RxAxB.mT if tall else x_RxAxB).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(x_RxAxB.dtype)
