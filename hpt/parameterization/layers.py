"""What a layer says of its parameters: which axis is its input and which its output, what is a table
that is looked up, and what acts entry by entry.

Known by their type: the layers of torch, and those that say their sizes (``in_features`` and
``out_features``), as Hugging Face's do. Of a raw ``nn.Parameter`` nothing is known.
"""

import inspect
import re
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parallel import DataParallel, DistributedDataParallel

#: What wrappers put into the names of the parameters below them.
_WRAPPED = re.compile(r"(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
_LOOKUPS = (nn.Embedding, nn.EmbeddingBag)
#: Attributes by which layers say their sizes.
_SAID_SIZES = (("in_features", "out_features"), ("input_size", "output_size"))
#: A parameter that acts entry by entry, whatever its shape: a gain, a bias, a magnitude.
EACH = "each"


class Place(NamedTuple):
    """Where a parameter stands: the layer that it belongs to, and its name there."""

    layer: nn.Module
    leaf: str


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and torch.compile."""
    if hasattr(model, "_orig_mod"):
        return unwrap(model._orig_mod)
    if isinstance(model, DistributedDataParallel | DataParallel):
        return unwrap(model.module)
    return model


def plain_name(name: str) -> str:
    """A name without what torch.compile and activation checkpointing of single blocks put into it."""
    return _WRAPPED.sub("", name)


def shapes_of(model: nn.Module) -> dict[str, tuple]:
    """Shapes of all parameters by plain name, tied ones by each of their names."""
    named = unwrap(model).named_parameters(remove_duplicate=False)
    return {plain_name(name): tuple(parameter.shape) for name, parameter in named}


def place_of(model: nn.Module, name: str) -> Place:
    """The layer of a parameter, also of one under torch's parametrizations."""
    path, _, leaf = name.rpartition(".")
    layer, parametrized, own = path.rpartition("parametrizations.")
    if not parametrized:
        return Place(unwrap(model.get_submodule(path)), leaf)
    # weight_norm keeps magnitude and direction apart, as its older form does.
    magnitudes = any("WeightNorm" in type(each).__name__ for each in model.get_submodule(path))
    own += "_g" if magnitudes and leaf == "original0" else ""
    return Place(unwrap(model.get_submodule(layer.rstrip("."))), own)


def is_lookup(layer: nn.Module) -> bool:
    """Whether a layer is a table whose rows are looked up."""
    return isinstance(layer, _LOOKUPS) or type(layer).__name__.endswith("Embedding")


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer is a norm, whose parameters are gains and biases."""
    return isinstance(layer, _NORMS) or type(layer).__name__.endswith("Norm")


def axes_of(place: Place, shape: tuple) -> str | None:
    """The axes of a parameter in words; None where they are not known.

    Words: "in" and "out"; "rows" of a table, one a token or position; "kernel" of a convolution;
    "experts"; :data:`EACH` alone for what acts entry by entry.
    """
    layer, leaf = place
    if len(shape) < 2 or is_norm(layer) or _is_bias_or_magnitude(layer, leaf):
        return EACH
    if isinstance(layer, _ConvNd):
        return _convolution_axes(layer, len(shape))
    kind = type(layer).__name__.removeprefix("FSDP")
    if len(shape) == 3 and kind.endswith("Experts") and hasattr(layer, "is_transposed"):
        return "experts in out" if layer.is_transposed else "experts out in"
    if len(shape) == 2:
        known = _matrix_axes(layer, kind, leaf)
        if known:
            return known
    return _said_axes(layer, shape)


def _is_bias_or_magnitude(layer, leaf):
    is_bias = leaf.endswith("bias") or leaf.startswith("bias_")
    return is_bias or (leaf.endswith("_g") and (hasattr(layer, f"{leaf[:-2]}_v") or leaf == "weight_g"))


def _convolution_axes(layer, ndim):
    # A channel that has its own kernel is scaled entry by entry.
    if layer.groups > 1 and layer.groups == layer.in_channels:
        return EACH
    first = "in out" if isinstance(layer, _ConvTransposeNd) else "out in"
    return first + " kernel" * (ndim - 2)


def _matrix_axes(layer, kind, leaf):
    if is_lookup(layer) and leaf == "weight":
        return "rows out"
    # Hugging Face's Conv1D is a linear layer stored in × out.
    if kind == "Conv1D" and hasattr(layer, "nf"):
        return "in out"
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention) or kind.endswith("Router"):
        return "out in"
    return None


def _said_axes(layer, shape):
    """The axes of a layer that says its sizes; those before the last two are stacked."""
    if isinstance(layer, nn.Bilinear):
        return None
    stacked = "experts " * (len(shape) - 2)
    for names in _SAID_SIZES:
        said = tuple(getattr(layer, name, None) for name in names)
        if shape[-2:] == said[::-1]:
            return f"{stacked}out in"
        if shape[-2:] == said:
            return f"{stacked}in out"
    # A shard or a quantized weight may have another size than its layer says.
    return "out in" if isinstance(layer, nn.Linear) and len(shape) == 2 else None


def input_table(model: nn.Module) -> Tensor | None:
    """The table that a model says it looks its tokens up in."""
    return _said_by(model, "get_input_embeddings")


def output_matrix(model: nn.Module) -> Tensor | None:
    """The matrix that a model says its logits come from."""
    return _said_by(model, "get_output_embeddings")


def _said_by(model, method):
    """The weight of the layer that a method of Hugging Face's models gives."""
    if not callable(getattr(model, method, None)):
        return None
    try:
        layer = getattr(model, method)()
    except (AttributeError, NotImplementedError):
        return None
    weight = layer if isinstance(layer, nn.Parameter) else getattr(layer, "weight", None)
    return weight if isinstance(weight, nn.Parameter) else None


def attention_names(model: nn.Module) -> tuple[str, ...]:
    """What the names of all in an attention layer start with."""
    found = []
    for name, part in model.named_modules():
        kind = type(part).__name__.lower()
        if name and "att" in kind:
            found.append(plain_name(f"{name}."))
    return tuple(found)


def source_of(layer: nn.Module) -> str:
    """The code of a layer's class; "" where there is none to read."""
    try:
        return inspect.getsource(type(layer))
    except (OSError, TypeError):
        return ""


def block_of(name: str) -> str:
    """The repeated block that a layer stands in; "" outside."""
    found = re.match(r"(.*?\.\d+)\..*\.", name)
    return found[1] if found else ""
