"""What a rule asks of a model's forward, which optimizer groups cannot give: multipliers and the
attention scale."""

import math
import re
from typing import NamedTuple

import torch
from torch import nn

from hpt.errors import ConfigError
from hpt.model.transformer import Attention, Transformer
from hpt.parameterization.growth import ParameterRole
from hpt.parameterization.layers import input_table, is_lookup, plain_name, source_of, unwrap
from hpt.parameterization.rules import Rule

#: How attention layers call the size of a head; the sizes that it is a ratio of; and their scale.
_HEAD_SIZES = (
    "head_dim",
    "attention_head_size",
    "hidden_size_per_attention_head",
    "head_size",
    "key_value_proj_dim",
    "dim_head",
    "d_head",
    "d_kv",
    "d_k",
)
_ALL_HEADS = ("embed_dim", "n_embd", "hidden_size", "d_model", "all_head_size", "dim")
_HEADS = ("num_heads", "n_head", "n_heads", "num_attention_heads", "heads", "nhead")
_SCALES = ("scaling", "scale", "softmax_scale", "attn_scale", "inv_norm_factor", "norm_factor")

_EMBEDDING_SCALES = ("scalar_embed_scale", "embed_scale", "embedding_multiplier", "scale_emb")
#: Code that takes a root of the size of a head, of the width, and that calls attention by its name.
_HEAD = r"(head\w*|size\(-1\)|shape\[-1\]|d_k|dim)"
_ROOT_OF_HEAD = re.compile(rf"(?<!r)sqrt\([^\n]*{_HEAD}|{_HEAD}\)?\s*\*\*\s*\(?-?\s*0?\.5")
_ROOT_OF_WIDTH = re.compile(r"\*\s*(\w+\.)*sqrt\(|\*\s*[^\n]*\*\*\s*\(?0?\.5")
_CALLS_ATTENTION = re.compile(r"scaled_dot_product_attention\(|flash_attn_func\(|flex_attention\(")
#: Keys turned for the products with queries.
_TURNS_KEYS = re.compile(r"transpose\((-2, -1|-1, -2|2, 3|3, 2)\)|\.mT\b|einsum\(")


def refuse_multiplier(rule: Rule, role: ParameterRole, multiplier: float, model: nn.Module) -> None:
    """Say what to do about a forward multiplier.

    Raises
    ------
    ConfigError: always.
    """
    factor = f"{multiplier:.6g}"
    what = f"rule {rule.name!r} multiplies the output of {role.name!r} by {factor}"
    if role.tied_to:
        raise ConfigError(
            f"{what} where it is the readout; it is tied to {', '.join(role.tied_to)}, so the factor "
            "cannot go into its init and learning rate.",
            "one matrix cannot start at two sizes",
            f'multiply the logits in your model (logits = logits * {factor}), then pass forward="in_model"',
        )
    remedy = 'forward="absorb": the same training with the factor in init and LR (the abc-symmetry)'
    layer, _, leaf = role.name.rpartition(".")
    if _is_called(model, layer) and leaf == "weight":
        remedy += (
            "; or add\n"
            f'    model.get_submodule("{layer}").register_forward_pre_hook(\n'
            f"        lambda module, inputs: (inputs[0] * {factor}, *inputs[1:]))\n"
            '  and pass forward="in_model"'
        )
    raise ConfigError(
        f"{what}, which optimizer groups cannot do.", "a forward multiplier belongs to the model", remedy
    )


def _is_called(model, name):
    """Whether a layer multiplies what it is called with, so that a hook can multiply that before."""
    parent = model.get_submodule(name.rpartition(".")[0])
    uncalled = isinstance(parent, Attention | nn.MultiheadAttention)
    return isinstance(model.get_submodule(name), nn.Linear) and not uncalled


class _Attention(NamedTuple):
    """What an attention layer says of its heads and scale; None where it does not."""

    kind: str
    head: int | None
    head_named: str | None
    scale: float | None
    scale_named: str | None


def _number(layer, names):
    """The first of the attributes that is a number, in a tensor or not, and its name."""
    for name in names:
        value = getattr(layer, name, None)
        if torch.is_tensor(value) and value.numel() == 1 and not value.is_meta:
            value = value.item()
        if type(value) in (int, float) and value > 0:
            return value, name
    return None, None


def _is_attention(layer):
    """Whether a layer has matrices, and attention by its name or in its code."""
    if isinstance(layer, nn.MultiheadAttention):
        return True
    if not any(parameter.ndim > 1 for part in layer.children() for parameter in part.parameters(False)):
        return False
    if re.search(r"att(ention|n)|mha", type(layer).__name__, re.IGNORECASE):
        return True
    code = source_of(layer)
    is_by_hand = "softmax" in code and _TURNS_KEYS.search(code)
    return bool(is_by_hand or _CALLS_ATTENTION.search(code))


def _attention_of(layer):
    """An attention layer as it describes itself; None for any other module."""
    if not _is_attention(layer):
        return None
    head, head_named = _number(layer, _HEAD_SIZES)
    if head is None:
        every, _ = _number(layer, _ALL_HEADS)
        heads, _ = _number(layer, _HEADS)
        head = every // heads if every and heads else None
    scale, scale_named = _number(layer, _SCALES)
    if scale and scale > 1:
        # What logits are divided by.
        scale = 1 / scale
        scale_named = None
    if scale is None and head:
        scale = _scale_in_code(layer, head)
    kind = type(layer).__name__
    return _Attention(kind=kind, head=head, head_named=head_named, scale=scale, scale_named=scale_named)


def _scale_in_code(layer, head):
    """1/√head where the layer is torch's, or its code calls torch's attention without a scale or
    takes a root of the size of a head."""
    if isinstance(layer, nn.MultiheadAttention):
        return head**-0.5
    code = source_of(layer)
    if re.search(r"\bscale=(?!None)", code):
        return None
    is_root = _CALLS_ATTENTION.search(code) or _ROOT_OF_HEAD.search(code)
    return head**-0.5 if is_root else None


def _attentions(model):
    found = {plain_name(name): _attention_of(unwrap(layer)) for name, layer in unwrap(model).named_modules()}
    return {name: attention for name, attention in found.items() if attention}


def attention_note(rule: Rule, model: nn.Module, base_model: nn.Module | None) -> str:
    """What to change about the attention scale; "" where it is right, where the model has no
    attention that is known, and where the rule keeps 1/√d_head, whatever the model has.

    Our own Transformer takes its scale when it is built.
    """
    if isinstance(unwrap(model), Transformer) or rule.attention == "1/√d_head":
        return ""
    # Without a base model the wider copy kept the head size.
    base = _attentions(model if base_model is None else base_model)
    notes = {}
    for name, attention in _attentions(model).items():
        at_base = base.get(name, attention).head
        notes.setdefault((attention, at_base), _note(rule, name, attention, at_base))
    return "\n".join(filter(None, notes.values()))


def _note(rule, name, attention, base_head):
    """What one kind of attention layer needs; "" for nothing."""
    if attention.head is None or attention.scale is None:
        return (
            f"rule {rule.name!r} scales attention logits by {rule.attention}; the scale of {name!r} "
            f"({attention.kind}) is unknown: check it there"
        )
    wanted = rule.attention_scale(attention.head, base_head)
    if math.isclose(attention.scale, wanted, rel_tol=1e-6):
        return ""
    note = (
        f"rule {rule.name!r} scales attention logits by {wanted:.6g}; {name!r} (head size {attention.head}) "
        f"uses {attention.scale:.6g}.\n  optimizer groups cannot change that"
    )
    if attention.head == base_head:
        note += "; a constant factor, as long as the head size is the same at every width"
    fix = f"multiply the queries of each {attention.kind} by {wanted / attention.scale:.6g}"
    if attention.scale_named:
        same_head = f" and layer.{attention.head_named} == {attention.head}" if attention.head_named else ""
        fix = (
            "for layer in model.modules():\n"
            f'        if type(layer).__name__ == "{attention.kind}"{same_head}: '
            f"layer.{attention.scale_named} = {wanted:.6g}"
        )
    return f"{note}\n  try:\n    {fix}"


def embedding_note(model: nn.Module) -> str:
    """That a model multiplies its embedding, by the word of the layer or of what holds it, or in
    their code; "" where it does not."""
    inner = unwrap(model)
    said = input_table(model)
    for name, layer in inner.named_modules():
        is_table = is_lookup(layer) and (said is None or getattr(layer, "weight", None) is said)
        if not is_table:
            continue
        path, _, leaf = name.rpartition(".")
        holder = inner.get_submodule(path)
        factors = [_number(part, _EMBEDDING_SCALES)[0] for part in (layer, holder)]
        factor = next((each for each in factors if each not in (None, 1)), None)
        by = f"{factor:.4g}" if factor else "a root of the width, it seems"
        if factor or _is_multiplied(leaf, source_of(holder) + source_of(inner)):
            return (
                f"{name}: the model multiplies what it gives by {by}. Rules are of tables whose rows come as "
                "they are; a factor of √width does a part of what the embedding's rate does."
            )
    return ""


def _is_multiplied(leaf, code):
    """Whether code multiplies by a root what the table gives, where it is called or a line below."""
    call = rf"\.{re.escape(leaf)}\("
    named = re.findall(rf"(\w+) = [^\n]*{call}", code)
    uses = "|".join([call, *(rf"\b{name} \*" for name in named)])
    return any(re.search(uses, line) and _ROOT_OF_WIDTH.search(line) for line in code.splitlines())
