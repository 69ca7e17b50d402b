"""Looks into runs under way: what :mod:`hpt.runs.diagnostics` tells, measured around one step.

Shapes: R members, B sequences of a batch, T tokens of context, N tokens, D inputs of a layer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from hpt.model.transformer import Attention, Projection
from hpt.runs.diagnostics import LOOKED_AT

#: Sequences of the batch that layers are looked at with: more change little, and would cost.
SEQUENCES = 2
Weights = Mapping[str, Tensor]


@torch.no_grad()
def look(
    model: nn.Module,
    roles: Mapping[str, str],
    constants: Weights,
    before: Weights,
    after: Weights,
    ids_RxBxT: Tensor,
    dtype: torch.dtype,
) -> list[list[dict]]:
    """What a step did to the weights of each role, a list a member.

    Parameters
    ----------
    model: for its forward alone.
    roles: of the parameters, by name.
    constants: the model's buffers.
    before, after: all members' parameters around the step, by name, behind the members' axis.
    ids_RxBxT: what the members saw in it.
    """

    def of_member(before, after, ids_BxT):
        inputs = _layer_inputs(model, constants | before, ids_BxT, dtype)
        updates = {name: after[name] - before[name] for name in before}
        return {role: _of_role(names, before, updates, inputs, ids_BxT) for role, names in by_role.items()}

    by_role = defaultdict(list)
    for name, role in roles.items():
        by_role[role].append(name)
    # The fused kernels of attention have no rule for members.
    with sdpa_kernel(SDPBackend.MATH):
        found = vmap(of_member)(before, after, ids_RxBxT[:, :SEQUENCES])
    rows_of_role = [
        [_row(role, values) for values in values_Rx4.tolist()] for role, values_Rx4 in found.items()
    ]
    return list(map(list, zip(*rows_of_role, strict=True)))


def _row(role, values):
    # JSON has no nan.
    plain = [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
    return {"role": role, **dict(zip(LOOKED_AT, plain, strict=True))}


def _of_role(names, weights, updates, inputs, ids_BxT):
    """The numbers of ``LOOKED_AT`` of one role, (4,)."""
    weight_norm = _norm([weights[name] for name in names])
    update_norm = _norm([updates[name] for name in names])
    matrices = [name for name in names if weights[name].ndim > 1]
    aligned = [
        torch.stack([_alignment(name, of[name], inputs, ids_BxT) for of in (weights, updates)])
        for name in matrices
    ]
    alignments_2 = torch.stack(aligned).nanmean(0) if aligned else weight_norm.new_full((2,), math.nan)
    return torch.cat([torch.stack([weight_norm, update_norm / weight_norm]), alignments_2])


def _norm(tensors):
    return torch.stack([x.square().sum() for x in tensors]).sum().sqrt()


def _alignment(name, matrix, inputs, ids_BxT):
    """‖W x‖/(‖W‖·‖x‖); a lookup's inputs are one-hot."""
    if name == "token_embedding.weight":
        y_NxD, x_norm = matrix[ids_BxT.flatten()], math.sqrt(ids_BxT.numel())
    elif name == "position_embedding.weight":
        y_NxD, x_norm = matrix[: ids_BxT.shape[1]], math.sqrt(ids_BxT.shape[1])
    else:
        y_NxD, x_norm = inputs[name] @ matrix.T, inputs[name].norm()
    return y_NxD.norm() / (matrix.norm() * x_norm)


def _layer_inputs(model, weights, ids_BxT, dtype):
    """What each matrix but those of lookups is multiplied with, NxD in fp32, by name."""
    inputs = {}
    hooks = []
    for name, layer in model.named_modules():
        # Attention multiplies by its projections itself.
        parts = [f"{name}.{part}.weight" for part in ("query", "key", "value")]
        if isinstance(layer, nn.Linear) and not isinstance(layer, Projection):
            parts = [f"{name}.weight"]
        elif not isinstance(layer, Attention):
            continue
        hooks.append(layer.register_forward_pre_hook(_keep(inputs, parts)))
    try:
        functional_call(model, weights, (ids_BxT, None, dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


def _keep(inputs, names):
    def hook(_, arguments):
        x_NxD = arguments[0].flatten(0, 1).float()
        inputs.update(dict.fromkeys(names, x_NxD))

    return hook
