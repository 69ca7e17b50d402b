"""Readout and cross-entropy as one function, which makes its gradient with its value: so logits are
read once and forgotten.

Shapes: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Logits made at a time: as many as the memory should hold.
LOGITS_AT_A_TIME = {"cpu": 2**24, "cuda": 2**27}
#: And for so many tokens. Half of a small batch's stay near a CPU's cores, which saves 3 to 6 % of its step;
#: a GPU multiplies few rows at a lower pace.
TOKENS_AT_A_TIME = {"cpu": 512, "cuda": 2**27}


def readout_loss(x_NxD: Tensor, weight_VxD: Tensor, targets_N: Tensor, multiplier: float = 1.0) -> Tensor:
    """Mean cross-entropy of softmax(multiplier · x Wᵀ) against ``targets_N``, in nats.

    Matmuls run in the dtype of ``x_NxD``, and so do the logits and their softmax; sums are taken in
    fp32. The gradient of the logits is softmax minus one-hot, over N, so it is known as soon as the
    loss is: those of x and W are made at once and the logits forgotten. The loss can be
    differentiated once, not twice.

    How far a confident token is from certain, 1 − p, is the sum of all other probabilities, which
    holds its digits where p itself is rounded to 1.

    Parameters
    ----------
    x_NxD: the last norm's output.
    weight_VxD: the readout's matrix, fp32.
    targets_N: token ids, int64.
    multiplier: factor on the logits.
    """
    return _ReadoutLoss.apply(x_NxD, weight_VxD, targets_N, multiplier)[0]


def surprise(p: Tensor, others: Tensor) -> Tensor:
    """−ln p, from 1 − p where p is the larger of the two; finite where p is 0."""
    return torch.where(p > others, -torch.log1p(-others), -p.clamp_min(torch.finfo(p.dtype).tiny).log())


class _ReadoutLoss(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x_NxD, weight_VxD, targets_N, multiplier):
        w_VxD = weight_VxD.to(x_NxD.dtype)
        kind = "cuda" if x_NxD.device.type == "cuda" else "cpu"
        rows = max(1, min(LOGITS_AT_A_TIME[kind] // len(w_VxD), TOKENS_AT_A_TIME[kind]))
        loss = 0.0
        d_x = []
        d_weight = 0.0
        for x, targets in zip(x_NxD.split(rows), targets_N.split(rows), strict=True):
            logits = x @ w_VxD.T
            p = (logits if multiplier == 1 else logits * multiplier).softmax(1)
            at_target = (torch.arange(len(x), device=x.device), targets)
            p_target = p[at_target]
            p.index_put_(at_target, p.new_zeros(()))
            others = p.sum(1)
            loss = loss + surprise(p_target.float(), others.float()).sum()
            # Now p becomes the gradient of the logits, times N.
            p.index_put_(at_target, -others)
            d_x.append(p @ w_VxD)
            d_weight = d_weight + (p.T @ x).float()
        N = len(x_NxD)
        return loss / N, torch.cat(d_x) * (multiplier / N), d_weight * (multiplier / N)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx, grad, *_):
        d_x, d_weight = ctx.saved_tensors
        return d_x * grad.to(d_x.dtype), d_weight * grad, None, None
