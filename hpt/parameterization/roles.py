"""Which role every parameter of a model has, read off the shapes of the same model at another
width.

A matrix whose input and output both grow with width is hidden; one whose output alone grows is an
embedding; one whose input alone grows is a readout (a router of experts is one); one of which
nothing grows is fixed; a one-dimensional parameter is a vector (Yang et al. 2022, section 4).
"""

import copy
import itertools
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


class _Parameter(NamedTuple):
    """A parameter as its two copies show it, and what the mapping and its layer say of it."""

    name: str
    owner: nn.Module
    shape: tuple
    other: tuple
    role: Role | None
    axes: list | None

    def __str__(self) -> str:
        return f"parameter {self.name!r} of shape {self.shape}, {self.other} in the other copy,"


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and torch.compile."""
    if hasattr(model, "_orig_mod"):
        return unwrap(model._orig_mod)
    if isinstance(model, DistributedDataParallel | DataParallel):
        return unwrap(model.module)
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
    mapping = mapping or {}
    others = {
        _plain(name): tuple(tensor.shape)
        for name, tensor in unwrap(other).named_parameters(remove_duplicate=False)
    }
    names = defaultdict(list)
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names[tensor].append(_plain(name))
    _check_patterns(mapping, list(itertools.chain(*names.values())))
    found = {}
    free = []
    for name, tensor in model.named_parameters():
        plain, *tied_to = names[tensor]
        owner = model.get_submodule(name.rpartition(".")[0])
        p = _look(plain, owner, tuple(tensor.shape), others, mapping)
        found[name] = ParameterRole(name, *_role(p), tuple(tied_to))
        # What the mapping says is meant so.
        if p.role is None:
            free.append((p, found[name].role))
    if all(role.growth is None for role in found.values()):
        _refuse_one_width(free)
    _refuse_half_grown_blocks(free)
    return found


def _plain(name: str) -> str:
    """A name without what activation checkpointing puts into it."""
    return name.replace("_checkpoint_wrapped_module.", "")


def _check_patterns(mapping, names):
    for pattern in mapping:
        if not any(fnmatchcase(name, pattern) for name in names):
            what = f"no parameter matches {pattern!r} of the role mapping."
            raise RoleError(what, did_you_mean(pattern, names))


def _look(name, owner, shape, others, mapping):
    """A parameter beside its namesake, with the first entry of the mapping that fits."""
    other = others.get(name, "missing")
    if other == "missing" or len(other) != len(shape):
        raise RoleError(
            f"parameter {name!r} of shape {shape} is {other} in the other copy.",
            "the two models differ in more than width",
            "build both from one config, width apart",
        )
    said = next((said for pattern, said in mapping.items() if fnmatchcase(name, pattern)), None)
    role, axes = said if isinstance(said, tuple | list) else (said, None)
    if role not in (None, *ROLES):
        raise RoleError(f"{role!r}, given for {name!r}, is no role.", did_you_mean(role, ROLES))
    axes = axes or _axes_of_layer(owner, len(shape))
    return _Parameter(name, owner, shape, other, role, axes and axes.split())


def _axes_of_layer(owner, ndim):
    """The axes of a known layer's weight, in words; None where it is not known."""
    kind = type(owner).__name__.removeprefix("FSDP")
    # Hugging Face's experts are stacked, its Conv1D is in × out.
    if ndim == 3 and kind.endswith("Experts") and hasattr(owner, "is_transposed"):
        return "experts in out" if owner.is_transposed else "experts out in"
    if ndim != 2:
        return None
    if isinstance(owner, nn.Embedding) or kind == "Conv1D":
        return "in out"
    if isinstance(owner, nn.Linear | nn.MultiheadAttention) or kind.endswith("Router"):
        return "out in"
    return None


def _role(p):
    """Role, fan_in, fan_out and growth."""
    sizes = enumerate(zip(p.shape, p.other, strict=True))
    ratios = {i: size / other for i, (size, other) in sizes if size != other}
    if len(p.shape) <= 1 or p.role == "vector":
        size = p.shape[-1] if p.shape else 1
        return p.role or "vector", 1, size, next(iter(ratios.values()), None)
    if p.role == "fixed" or not (p.role or ratios):
        return "fixed", p.shape[-1], p.shape[0], None
    axes = _axes(p, ratios)
    growth = {axes[i]: ratio for i, ratio in ratios.items()}
    odd = growth.keys() - {"in", "out"}
    if odd:
        raise RoleError(
            f"{p} changes in more than input and output: axis {min(odd)!r} grows too.",
            "the two models differ in more than width",
            'build both from one config, width apart, or param_groups(…, roles={its name: "fixed"})',
        )
    fans = list(zip(axes, p.shape, strict=True))
    fan_in = math.prod(size for axis, size in fans if axis in ("in", "kernel"))
    fan_out = math.prod(size for axis, size in fans if axis == "out")
    by_growth = "readout" if "in" in growth else "embedding"
    if len(growth) == 2:
        by_growth = "hidden"
    return p.role or by_growth, fan_in, fan_out, growth.get("in", growth.get("out"))


def _axes(p, ratios):
    """The axes in words; of a matrix that is said to be an embedding or a readout, the one that
    grows tells."""
    axes = p.axes
    ndim = len(p.shape)
    if axes is None and ndim == 2 and len(ratios) == 1 and p.role in ("embedding", "readout"):
        last_grows = 1 in ratios
        axes = ["in", "out"] if last_grows == (p.role == "embedding") else ["out", "in"]
    if axes and len(axes) == ndim and {"in", "out"} <= set(axes):
        return axes
    words = "heads out in" if ndim == 3 else "out in" + " kernel" * (ndim - 2)
    raise RoleError(
        f"{p} belongs to {type(p.owner).__name__}.",
        "which axis is its input is not known for that layer",
        f'param_groups(…, roles={{"{p.name}": ("{p.role or "hidden"}", "{words}")}}), or "fixed"',
    )


def _refuse_one_width(matrices):
    """Where nothing grows, no shape tells a role."""
    for p, role in matrices:
        if role == "fixed":
            raise RoleError(
                f"parameter {p.name!r} has shape {p.other} in both models, as have all others.",
                "both copies have one width",
                "pass a copy of another width, or param_groups(…, roles={each name: its role})",
            )


def _refuse_half_grown_blocks(matrices):
    """An inner size of a block that does not grow makes one matrix an embedding and the next a
    readout."""
    blocks = defaultdict(dict)
    for p, role in matrices:
        block = re.match(r"(.*?\.\d+)\..*\.", p.name)
        if not block or isinstance(p.owner, nn.Embedding):
            continue
        first = blocks[block[1]]
        first.setdefault(role, p)
        if first.keys() >= {"readout", "embedding"}:
            into = first["readout"]
            out_of = first["embedding"]
            raise RoleError(
                f"{into} maps into a size that does not grow, and {out_of} out of one.",
                "the other copy kept the inner size of its blocks (an intermediate_size, a number of heads)",
                f'shrink that size too, or, if it is meant so, param_groups(…, roles={{"{into.name}": '
                f'"readout", "{out_of.name}": "embedding"}})',
            )


_WIDTH_KEYS = ("hidden_size", "n_embd", "d_model")
#: Sizes of a configuration that grow in step with its width.
_INNER_SIZE_KEYS = (
    "intermediate_size moe_intermediate_size shared_expert_intermediate_size n_inner ffn_dim "
    "num_attention_heads n_head num_key_value_heads"
).split()


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
