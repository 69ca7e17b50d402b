"""Which role every parameter of a model has, read off the shapes of the same model at another
width.

A matrix whose input and output both grow with width is hidden; one whose output alone grows is an
embedding; one whose input alone grows is a readout (a router of experts is one); one of which
nothing grows is fixed; a one-dimensional parameter is a vector (Yang et al. 2022, section 4).
"""

from __future__ import annotations

import copy
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpt.errors import RoleError, did_you_mean
from hpt.parameterization.rules import ROLES, Role

#: Role of the parameters that match a pattern: "hidden", or with the order of the axes,
#: ("hidden", "out in").
RoleMap = Mapping[str, str | tuple[str, str]]


@dataclass(frozen=True)
class ParameterRole:
    """Role and sizes of one parameter.

    Attributes
    ----------
    name: as in ``model.named_parameters()``.
    role: embedding, hidden, readout, vector or fixed.
    fan_in, fan_out: inputs and outputs of the map that the parameter is.
    growth: its growing size over that of the other copy; None where nothing grows (a scalar gain).
    tied_to: other names of the same parameter.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    growth: float | None
    tied_to: tuple[str, ...] = ()


class _Sighting(NamedTuple):
    """A parameter as its two copies show it, and what the mapping and its layer say of it."""

    name: str
    owner: nn.Module
    shape: tuple[int, ...]
    other: tuple[int, ...]
    role: Role | None
    axes: list[str] | None


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and torch.compile."""
    while isinstance(model, DistributedDataParallel | DataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def find_roles(
    model: nn.Module, other: nn.Module, mapping: RoleMap | None = None
) -> dict[str, ParameterRole]:
    """Roles of all parameters, each once, by comparing shapes with ``other``.

    Parameters
    ----------
    model: any module; layers of torch and Hugging Face are known, others need an entry in
        ``mapping`` where shapes leave a doubt.
    other: the same architecture at another width; only shapes are read, so it may live on "meta".
    mapping: what shapes cannot tell, by pattern of names: ``{"*.k_proj.weight": "hidden"}``, or
        with the axes in words: ``{"mixer.w": ("hidden", "heads out in")}``. An axis that is neither
        is left out of both fans, except "kernel", which counts to fan_in.

    Raises
    ------
    RoleError: for a parameter that the copy lacks, one whose shapes leave a doubt, and a pattern
        that fits none.
    """
    model = unwrap(model)
    other_shapes = {
        _plain(name): tuple(parameter.shape)
        for name, parameter in unwrap(other).named_parameters(remove_duplicate=False)
    }
    mapping = mapping or {}
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[parameter].append(_plain(name))
    _check_patterns(mapping, [name for tied in names.values() for name in tied])
    found = {}
    seen = {}
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        plain = _plain(name)
        p = _look(plain, owner, tuple(parameter.shape), other_shapes, mapping)
        tied_to = tuple(alias for alias in names[parameter] if alias != plain)
        found[name] = ParameterRole(name, *_role(p), tied_to)
        seen[name] = p
    # What the mapping says is meant so.
    free = {name: role for name, role in found.items() if seen[name].role is None}
    if all(role.growth is None for role in found.values()):
        _refuse_one_width(free, seen)
    _refuse_half_grown_blocks(free, seen)
    return found


def _plain(name: str) -> str:
    """A name without what activation checkpointing puts into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def _check_patterns(mapping: RoleMap, names: list[str]) -> None:
    for pattern in mapping:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RoleError(
                f"no parameter matches {pattern!r} of the role mapping.",
                did_you_mean(pattern, names),
            )


def _look(name, owner, shape, other_shapes, mapping: RoleMap) -> _Sighting:
    """A parameter beside its namesake, with the first entry of the mapping that fits."""
    if name not in other_shapes or len(other_shapes[name]) != len(shape):
        raise RoleError(
            f"parameter {name!r} of shape {shape} is {other_shapes.get(name, 'missing')} in the other copy.",
            "the two models differ in more than width",
            "build both from one config, width apart",
        )
    role = next((said for pattern, said in mapping.items() if fnmatchcase(name, pattern)), None)
    axes = None
    if isinstance(role, tuple | list):
        role, axes = role
    if role is not None and role not in ROLES:
        raise RoleError(
            f"{role!r}, given for parameter {name!r}, is no role.", did_you_mean(role, ROLES)
        )
    axes = axes or _axes_of_layer(owner, len(shape))
    return _Sighting(name, owner, shape, other_shapes[name], role, axes and axes.split())


def _axes_of_layer(owner: nn.Module, ndim: int) -> str | None:
    """The axes of a known layer's weight, in words; None where it is not known."""
    kind = type(owner).__name__.removeprefix("FSDP")
    # Hugging Face's Conv1D is in × out.
    if ndim == 2 and (isinstance(owner, nn.Embedding) or kind == "Conv1D"):
        return "in out"
    linear = isinstance(owner, nn.Linear | nn.MultiheadAttention) or kind.endswith("Router")
    if ndim == 2 and linear:
        return "out in"
    # Hugging Face's stacked experts.
    if ndim == 3 and kind.endswith("Experts") and hasattr(owner, "is_transposed"):
        return "experts in out" if owner.is_transposed else "experts out in"
    return None


def _role(p: _Sighting) -> tuple[Role, int, int, float | None]:
    """Role, fan_in, fan_out and growth."""
    pairs = enumerate(zip(p.shape, p.other, strict=True))
    growing = {axis: size / other for axis, (size, other) in pairs if size != other}
    if len(p.shape) <= 1 or p.role == "vector":
        size = p.shape[-1] if p.shape else 1
        return p.role or "vector", 1, size, next(iter(growing.values()), None)
    if p.role == "fixed" or (p.role is None and not growing):
        return "fixed", p.shape[-1], p.shape[0], None
    axes = p.axes or _axes_by_growth(p.role, list(growing), len(p.shape))
    _check_axes(p, axes)
    growth = {axes[axis]: ratio for axis, ratio in growing.items()}
    _check_growth(p, growth)
    sizes = list(zip(axes, p.shape, strict=True))
    fan_in = math.prod(size for axis, size in sizes if axis in ("in", "kernel"))
    fan_out = math.prod(size for axis, size in sizes if axis == "out")
    by_growth = "readout" if "in" in growth else "embedding"
    if len(growth) == 2:
        by_growth = "hidden"
    return p.role or by_growth, fan_in, fan_out, growth.get("in", growth.get("out"))


def _axes_by_growth(role: Role | None, growing: list[int], ndim: int) -> list[str] | None:
    """The axes of a matrix that is said to be an embedding or a readout: one axis grows."""
    if ndim != 2 or len(growing) != 1 or role not in ("embedding", "readout"):
        return None
    grows_last = growing == [1]
    return ["in", "out"] if grows_last == (role == "embedding") else ["out", "in"]


def _check_axes(p: _Sighting, axes: list[str] | None) -> None:
    if axes and len(axes) == len(p.shape) and {"in", "out"} <= set(axes):
        return
    ndim = len(p.shape)
    words = "heads out in" if ndim == 3 else "out in" + " kernel" * (ndim - 2)
    raise RoleError(
        f"parameter {p.name!r} of shape {p.shape} (in the other copy {p.other}) belongs to "
        f"{type(p.owner).__name__}.",
        "which axis is its input is not known for that layer",
        f'param_groups(…, roles={{"{p.name}": ("{p.role or "hidden"}", "{words}")}}), or "fixed"',
    )


def _check_growth(p: _Sighting, growth: dict[str, float]) -> None:
    for axis in growth:
        if axis not in ("in", "out"):
            raise RoleError(
                f"parameter {p.name!r} of shape {p.shape} is {p.other} in the other copy: its axis {axis!r} "
                "grows too.",
                "the two models differ in more than width",
                f'build both from one config, width apart, or param_groups(…, roles={{"{p.name}": …}})',
            )


def _refuse_one_width(free: dict[str, ParameterRole], seen: dict[str, _Sighting]) -> None:
    """Two copies of one width show no role of a matrix."""
    for name, role in free.items():
        if role.role == "fixed":
            raise RoleError(
                f"parameter {name!r} has shape {seen[name].other} in both models, as have all others.",
                "both copies have one width",
                f'pass a copy of another width, or say the roles: param_groups(…, roles={{"{name}": …}})',
            )


def _refuse_half_grown_blocks(free: dict[str, ParameterRole], seen: dict[str, _Sighting]) -> None:
    """An inner size of a block that does not grow makes one matrix an embedding and the next a
    readout."""
    blocks = defaultdict(dict)
    for name, role in free.items():
        block = re.match(r"(.*?\.\d+)\..*\.", name)
        if block and not isinstance(seen[name].owner, nn.Embedding):
            blocks[block[1]].setdefault(role.role, seen[name])
    for first in blocks.values():
        if "readout" not in first or "embedding" not in first:
            continue
        into, out_of = first["readout"], first["embedding"]
        raise RoleError(
            f"parameter {into.name!r} of shape {into.shape} (in the other copy {into.other}) maps into a "
            f"size that does not grow, and {out_of.name!r} of shape {out_of.shape} ({out_of.other}) out of one.",
            "the other copy kept the inner size of its blocks (an intermediate_size, a number of heads)",
            f'shrink that size too, or, if it is meant so, param_groups(…, roles={{"{into.name}": "readout", '
            f'"{out_of.name}": "embedding"}})',
        )


_WIDTH_KEYS = ("hidden_size", "n_embd", "d_model")
#: Sizes of a configuration that grow in step with its width.
_INNER_SIZE_KEYS = (
    "intermediate_size",
    "moe_intermediate_size",
    "shared_expert_intermediate_size",
    "n_inner",
    "ffn_dim",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
)


def huggingface_width(model: nn.Module) -> int | None:
    """Width of a model that carries a Hugging Face configuration; None for any other."""
    config = getattr(unwrap(model), "config", None)
    if not hasattr(config, "model_type"):
        return None
    sizes = (getattr(config, key, None) for key in _WIDTH_KEYS)
    return next((size for size in sizes if isinstance(size, int)), None)


def wider_huggingface_copy(model: nn.Module) -> nn.Module:
    """The same architecture twice as wide, shapes only: heads and inner sizes grow along, the head
    size stays."""
    model = unwrap(model)
    config = copy.deepcopy(model.config)
    # GPT-2 has hidden_size as another name of n_embd.
    aliases = getattr(config, "attribute_map", {})
    for key in (*_WIDTH_KEYS, *_INNER_SIZE_KEYS):
        size = getattr(config, key, None)
        if isinstance(size, int) and key not in aliases:
            setattr(config, key, 2 * size)
    with torch.device("meta"):
        return type(model)(config)
