"""Which role every parameter of a model has, read off the shapes of the same model at another
width.

A matrix whose input and output both grow with width is hidden; one whose output alone grows is an
embedding; one whose input alone grows is a readout (a router of experts is one); one of which
nothing grows is fixed; a one-dimensional parameter is a vector (Yang et al. 2022, section 4).
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hpt.errors import RoleError, did_you_mean
from hpt.parameterization.sixteen import Role

#: Role of the parameters that match a pattern: "hidden", or with the order of the axes, ("hidden", "out in").
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


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and torch.compile."""
    while isinstance(model, DistributedDataParallel | DataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    return model


def roles(
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
            is left out of both fans,
        except "kernel", which counts to fan_in.

    Raises
    ------
    RoleError: for a parameter that the copy lacks, one whose shapes leave a doubt, and a pattern
        that fits none.
    """
    model, other = unwrap(model), unwrap(other)
    shapes = {
        _plain(name): tuple(p.shape) for name, p in other.named_parameters(remove_duplicate=False)
    }
    mapping = mapping or {}
    names = defaultdict(list)
    for name, p in model.named_parameters(remove_duplicate=False):
        names[id(p)].append(_plain(name))
    for pattern in mapping:
        known = [n for group in names.values() for n in group]
        if not any(fnmatchcase(n, pattern) for n in known):
            raise RoleError(
                f"no parameter matches {pattern!r} of the role mapping.",
                did_you_mean(pattern, known),
            )
    found = {}
    for raw_name, parameter in model.named_parameters():
        name, shape = _plain(raw_name), tuple(parameter.shape)
        if name not in shapes or len(shapes[name]) != len(shape):
            raise RoleError(
                f"parameter {name!r} of shape {shape} is {shapes.get(name, 'missing')} in the other copy.",
                "the two models differ in more than width",
                "build both from one config, width apart",
            )
        owner = model.get_submodule(raw_name.rpartition(".")[0])
        given = next((v for pattern, v in mapping.items() if fnmatchcase(name, pattern)), None)
        r = _role(name, owner, shape, shapes[name], given)
        tied = tuple(n for n in names[id(parameter)] if n != name)
        found[raw_name] = ParameterRole(raw_name, *r, tied_to=tied)
    free = {
        n: r
        for n, r in found.items()
        if not any(fnmatchcase(_plain(n), pattern) for pattern in mapping)
    }
    same = next((n for n, r in free.items() if r.role == "fixed"), None)
    if same and all(r.growth is None for r in found.values()):
        raise RoleError(
            f"parameter {same!r} has shape {shapes[_plain(same)]} in both models, as have all others.",
            "both copies have one width",
            f'pass a copy of another width, or say the roles: param_groups(…, roles={{"{same}": …}})',
        )
    _refuse_half_grown_blocks(free, shapes, model)
    return found


def _plain(name: str) -> str:
    """A name without what activation checkpointing puts into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def _axes(owner: nn.Module, ndim: int) -> list[str] | None:
    """The axes of a known layer's weight, in words; None where it is not known."""
    kind = type(owner).__name__.removeprefix("FSDP")
    if ndim == 2:
        if isinstance(owner, nn.Embedding) or kind == "Conv1D":  # Hugging Face's Conv1D is in × out
            return ["in", "out"]
        if isinstance(owner, nn.Linear | nn.MultiheadAttention) or kind.endswith("Router"):
            return ["out", "in"]
    if (
        ndim == 3 and kind.endswith("Experts") and hasattr(owner, "is_transposed")
    ):  # Hugging Face's stacked experts
        return ["experts", "in", "out"] if owner.is_transposed else ["experts", "out", "in"]
    return None


def _role(
    name: str,
    owner: nn.Module,
    shape: tuple[int, ...],
    other: tuple[int, ...],
    given: str | tuple[str, str] | None,
) -> tuple[Role, int, int, float | None]:
    """Role, fan_in, fan_out and growth."""
    role, axes = (given, None) if isinstance(given, str) else given or (None, None)
    axes = axes.split() if axes else _axes(owner, len(shape))
    if role is not None and role not in Role.__args__:
        raise RoleError(
            f"{role!r}, given for parameter {name!r}, is no role.",
            did_you_mean(role, Role.__args__),
        )
    grows = [a != b for a, b in zip(shape, other, strict=True)]
    ratios = [a / b for a, b in zip(shape, other, strict=True) if a != b]
    if len(shape) <= 1 or role == "vector":
        size = shape[-1] if shape else 1
        return role or "vector", 1, size, ratios[0] if ratios else None
    if role == "fixed" or (role is None and not any(grows)):
        return "fixed", shape[-1], shape[0], None
    if axes is None and len(shape) == 2 and (role in ("embedding", "readout") and sum(grows) == 1):
        grown = grows.index(True)  # told the role, one growing axis says which is which
        axes = ["", ""]
        axes[grown], axes[1 - grown] = ("out", "in") if role == "embedding" else ("in", "out")
    if axes is None or len(axes) != len(shape) or not {"in", "out"} <= set(axes):
        words = "heads out in" if len(shape) == 3 else "out in kernel"[: 6 + 7 * (len(shape) > 2)]
        raise RoleError(
            f"parameter {name!r} of shape {shape} (in the other copy {other}) belongs to {type(owner).__name__}.",
            "which axis is its input is not known for that layer",
            f'param_groups(…, roles={{"{name}": ("{role or "hidden"}", "{words.strip()}")}}), or "fixed"',
        )
    size = {"in": 1, "out": 1}
    growth: dict[str, float | None] = {"in": None, "out": None}
    for axis, a, b in zip(axes, shape, other, strict=True):
        if axis in size or axis == "kernel":
            size["in" if axis == "kernel" else axis] *= a
        if axis in growth and a != b:
            growth[axis] = a / b
        elif a != b:
            raise RoleError(
                f"parameter {name!r} of shape {shape} is {other} in the other copy: its axis {axis!r} "
                "grows too.",
                "the two models differ in more than width",
                f'build both from one config, width apart, or param_groups(…, roles={{"{name}": …}})',
            )
    by_shape = (
        "hidden" if growth["in"] and growth["out"] else "readout" if growth["in"] else "embedding"
    )
    return role or by_shape, size["in"], size["out"], growth["in"] or growth["out"]


def _refuse_half_grown_blocks(
    found: dict[str, ParameterRole], shapes: dict, model: nn.Module
) -> None:
    """An inner size of a block that does not grow makes one matrix an embedding and the next a
    readout."""
    blocks = defaultdict(dict)
    for name, r in found.items():
        block = re.match(r"(.*?\.\d+)\..*\.", name)
        if (
            block
            and r.role in ("embedding", "readout")
            and not isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)
        ):
            blocks[block[1]].setdefault(r.role, name)
    for block in blocks.values():
        if len(block) == 2:
            into, out_of = block["readout"], block["embedding"]
            now = {n: tuple(model.get_parameter(n).shape) for n in (into, out_of)}
            raise RoleError(
                f"parameter {into!r} of shape {now[into]} (in the other copy {shapes[_plain(into)]}) maps into a size "
                f"that does not grow, and {out_of!r} of shape {now[out_of]} ({shapes[_plain(out_of)]}) out of one.",
                "the other copy kept the inner size of its blocks (an intermediate_size, a number of heads)",
                f'shrink that size too, or, if it is meant so, param_groups(…, roles={{"{into}": "readout", '
                f'"{out_of}": "embedding"}})',
            )


_WIDTH = ("hidden_size", "n_embd", "d_model")


_GROWS_ALONG = (
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
    return next(
        (getattr(config, key) for key in _WIDTH if isinstance(getattr(config, key, None), int)),
        None,
    )


def wider_huggingface_copy(model: nn.Module) -> nn.Module:
    """The same architecture twice as wide, shapes only: heads and inner sizes grow along, the head
    size stays."""
    model = unwrap(model)
    config = copy.deepcopy(model.config)
    aliases = getattr(
        config, "attribute_map", {}
    )  # GPT-2 has hidden_size as another name of n_embd
    for key in (*_WIDTH, *_GROWS_ALONG):
        size = getattr(config, key, None)
        if isinstance(size, int) and key not in aliases:
            setattr(config, key, 2 * size)
    with torch.device("meta"):
        return type(model)(config)
