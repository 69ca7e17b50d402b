"""What a rule asks of a model's forward, which optimizer groups cannot give: multipliers and the
attention scale."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from torch import nn

from hpt.errors import ConfigError, ForwardWarning
from hpt.model.transformer import Transformer
from hpt.parameterization.roles import ParameterRole, unwrap
from hpt.parameterization.rules import Rule
from hpt.parameterization.sixteen import Scales


def refuse_multiplier(rule: Rule, role: ParameterRole, s: Scales, tied: bool) -> None:
    """Say what to do about a forward multiplier (ConfigError)."""
    layer = role.name.rpartition(".")[0]
    lines = (
        f'model.get_submodule("{layer}").register_forward_pre_hook(\n'
        f"        lambda module, inputs: (inputs[0] * {s.multiplier:.6g}, *inputs[1:]))"
    )
    if tied:
        raise ConfigError(
            f"rule {rule.name!r} multiplies the readout's output by {s.multiplier:.6g}; {role.name!r} is tied to "
            f"{', '.join(role.tied_to)}, so the factor cannot go into its init and learning rate.",
            "one matrix cannot start at two sizes",
            "multiply the logits in your model (logits = logits * "
            f'{s.multiplier:.6g}), then pass forward="in_model"',
        )
    raise ConfigError(
        f"rule {rule.name!r} multiplies the output of {role.name!r} by {s.multiplier:.6g}, which optimizer groups "
        "cannot do.",
        "a forward multiplier belongs to the model",
        f'forward="absorb": the same training without it (init std × {s.multiplier:.6g}, LR × {s.multiplier:.6g}; '
        f'the abc-symmetry); or add\n    {lines}\n  and pass forward="in_model"',
    )


def attention_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the attention layers that say their head size."""
    for name, module in unwrap(model).named_modules():
        if "Attention" in type(module).__name__ and isinstance(
            getattr(module, "head_dim", None), int
        ):
            yield name, module


def attention_note(rule: Rule, model: nn.Module, base_model: nn.Module | None) -> str:
    """What to change about the attention scale; "" where it is right, or the model has none that is
    known.

    A layer of Hugging Face's has ``head_dim`` and ``scaling``; one without ``scaling`` is taken to
    use 1/√head_dim. Our own Transformer takes its scale when it is built.
    """
    if isinstance(unwrap(model), Transformer):
        return ""
    # Without a base model the wider copy kept the head size.
    base_heads = {
        n: layer.head_dim
        for n, layer in attention_layers(model if base_model is None else base_model)
    }
    for name, layer in attention_layers(model):
        wanted = rule.attention_scale(layer.head_dim, base_heads.get(name))
        has = getattr(layer, "scaling", None) or layer.head_dim**-0.5
        if abs(has / wanted - 1) > 1e-6:
            if not hasattr(layer, "scaling"):
                fix = f"multiply the queries of each {type(layer).__name__} by {wanted / has:.6g}"
            else:
                fix = (
                    "for layer in model.modules():\n"
                    f'        if hasattr(layer, "scaling"): layer.scaling = {wanted:.6g}'
                )
            return (
                f"rule {rule.name!r} scales attention logits by {wanted:.6g}; {name!r} (head size "
                f"{layer.head_dim}) uses {has:.6g}.\n  optimizer groups cannot change that"
                + (
                    "; a constant factor, as long as the head size is the same at every width"
                    if base_heads.get(name) == layer.head_dim
                    else ""
                )
                + f"\n  try:\n    {fix}"
            )
    return ""


def warn_attention(rule: Rule, model: nn.Module, base_model: nn.Module | None) -> None:
    """Warn where the model's attention scale is not the rule's."""
    note = attention_note(rule, model, base_model)
    if note:
        warnings.warn(note, ForwardWarning, stacklevel=4)
