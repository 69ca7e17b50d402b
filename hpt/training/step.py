"""One training step of R members at once; a run alone is R = 1. It is a function of weights, moments,
batch and rates, all of them tensors, which it changes in place. It stands here, once, and runs in
four forms:

eager
    operation by operation, on a CPU: :func:`hpt.train`, :func:`hpt.train_stacked`.
compiled
    as one program, made once for a shape and kept on disk (:mod:`hpt.training.programs`):
    :func:`hpt.train_compiled`, and those shapes of a study that take many steps.
captured
    on CUDA: the launches of one of these two as one graph (:mod:`hpt.training.cuda_graph`).
distributed
    several processes hold the model and each steps with its part of it, by torch's own means
    (:mod:`hpt.training.distributed`).

Shapes: R members, B sequences of a batch, T tokens of context, V
vocabulary, G groups of equal rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vmap

from hpt.data.batches import Batch
from hpt.model.transformer import Transformer
from hpt.runs.train_config import TrainConfig
from hpt.training.optimizers import Update
from hpt.training.weights import Group, named_weights


@dataclass
class Step:
    """What a step is made of, beside the tensors that it works on.

    Attributes
    ----------
    model: for its forward alone: the weights are those of the groups.
    constants: the model's buffers.
    c: what is the same in all members.
    dtype: of the matmuls.
    sequences: how many go through the model at once.
    update: the optimizer's.
    stacked: whether the members have an axis in the model too, so that the bits of one do not hang on
        how many there are. A run alone has none: a matmul is faster than a batch of one.
    """

    model: Transformer
    constants: dict[str, Tensor]
    c: TrainConfig
    dtype: torch.dtype
    sequences: int
    update: Update
    stacked: bool

    def __call__(self, groups: Sequence[Group], inputs_RxBxT, targets_RxBxT, scalars_Gx5) -> Tensor:
        """Take the step, with its numbers of :func:`hpt.training.optimizers.step_scalars` for each
        group; the losses before it, (R,)."""
        grads, losses_R = self.gradients(groups, inputs_RxBxT, targets_RxBxT)
        self.change(groups, grads, scalars_Gx5)
        return losses_R

    @torch.no_grad()
    def change(self, groups, grads: dict[str, Tensor], scalars_Gx5) -> None:
        """Change the weights, given their gradients by name, behind the members' axis."""
        if self.c.clip is not None:
            clip(grads.values(), self.c.clip)
        for group, scalars_5 in zip(groups, scalars_Gx5, strict=True):
            self.update(group, [grads[name] for name in group.shapes], self.c, scalars_5)

    def gradients(self, groups, inputs_RxBxT, targets_RxBxT) -> tuple[dict[str, Tensor], Tensor]:
        """Of the mean loss, by parameter, behind the members' axis; and the losses, (R,)."""
        weights = {name: w.detach().requires_grad_() for name, w in self.own_weights(groups).items()}
        grads = None
        total_R = torch.zeros(len(inputs_RxBxT), device=inputs_RxBxT.device)
        for x, y in parts(inputs_RxBxT, targets_RxBxT, self.sequences, axis=1):
            share = x.shape[1] / inputs_RxBxT.shape[1]
            losses_R = self.losses(weights, x, y) * share
            # No loss depends on another member's weights.
            # Under no name of their own, these are freed before the next part needs its memory.
            grads = sums(grads, torch.autograd.grad(losses_R.sum(), list(weights.values())))
            total_R += losses_R.detach()
        if not self.stacked:
            grads = [g[None] for g in grads]
        return dict(zip(weights, grads, strict=True)), total_R

    def own_weights(self, groups) -> dict[str, Tensor]:
        """The parameters by name, behind the members' axis; of a run alone without it."""
        weights = named_weights(groups)
        if self.stacked:
            return weights
        return {name: w[0] for name, w in weights.items()}

    def losses(self, weights, inputs_RxBxT, targets_RxBxT) -> Tensor:
        """Each member's mean loss, (R,)."""
        if self.stacked:
            return vmap(self.forward)(weights, inputs_RxBxT, targets_RxBxT)
        return self.forward(weights, inputs_RxBxT[0], targets_RxBxT[0])[None]

    def forward(self, weights, inputs_BxT, targets_BxT=None) -> Tensor:
        """The model's, of one member."""
        arguments = (inputs_BxT, targets_BxT, self.dtype)
        return functional_call(self.model, weights | self.constants, arguments)

    def held_out_losses(self, groups, inputs_BxT, targets_BxT) -> Tensor:
        """Each member's mean loss on the same sequences, (R,), through whole logits."""

        def of_member(weights):
            return cross_entropy(self.forward(weights, inputs_BxT), targets_BxT)

        weights = self.own_weights(groups)
        if self.stacked:
            return vmap(of_member)(weights)
        return of_member(weights)[None]


def parts(inputs, targets, size: int, axis: int = 0) -> list[Batch]:
    """Inputs and targets of a batch, ``size`` of its sequences at a time."""
    return list(zip(inputs.split(size, axis), targets.split(size, axis), strict=True))


def sums(grads, more):
    """Gradients and those of a further micro-batch, in the memory of the first."""
    return more if grads is None else [g.add_(own) for g, own in zip(grads, more, strict=True)]


def clip(grads, most: float) -> None:
    """Shrink each member's gradients in place to a norm of at most ``most``, as torch's
    clip_grad_norm_ does."""
    norms = [torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in grads]
    factor_R = (most / (torch.stack(norms).square().sum(0).sqrt() + 1e-6)).clamp(max=1)
    for g in grads:
        g.mul_(factor_R.view(-1, *[1] * (g.ndim - 1)))


def cross_entropy(logits_BxTxV, targets_BxT) -> Tensor:
    """Mean loss of logits, taken in fp32, nats a token."""
    return F.cross_entropy(logits_BxTxV.flatten(0, 1).float(), targets_BxT.flatten())
