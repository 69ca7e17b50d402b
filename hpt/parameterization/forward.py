"""What a rule asks of a model's forward, which optimizer groups cannot give: multipliers and the
attention scale."""

import math

from torch import nn

from hpt.errors import ConfigError
from hpt.model.transformer import Transformer
from hpt.parameterization.roles import ParameterRole, unwrap
from hpt.parameterization.rules import Rule


def refuse_multiplier(rule: Rule, role: ParameterRole, multiplier: float) -> None:
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
    layer = role.name.rpartition(".")[0]
    raise ConfigError(
        f"{what}, which optimizer groups cannot do.",
        "a forward multiplier belongs to the model",
        f'forward="absorb": the same training with the factor in init and LR (the abc-symmetry); or add\n'
        f'    model.get_submodule("{layer}").register_forward_pre_hook(\n'
        f"        lambda module, inputs: (inputs[0] * {factor}, *inputs[1:]))\n"
        '  and pass forward="in_model"',
    )


def _attention_layers(model):
    """The attention layers that say their head size."""
    return {
        name: layer
        for name, layer in unwrap(model).named_modules()
        if "Attention" in type(layer).__name__ and isinstance(getattr(layer, "head_dim", None), int)
    }


def attention_note(rule: Rule, model: nn.Module, base_model: nn.Module | None) -> str:
    """What to change about the attention scale; "" where it is right, or the model has none that is
    known.

    A layer of Hugging Face's has ``head_dim`` and ``scaling``; one without ``scaling`` is taken to
    use 1/√head_dim. Our own Transformer takes its scale when it is built.
    """
    if isinstance(unwrap(model), Transformer):
        return ""
    # Without a base model the wider copy kept the head size.
    base_layers = _attention_layers(base_model or model)
    for name, layer in _attention_layers(model).items():
        head = layer.head_dim
        base_head = getattr(base_layers.get(name), "head_dim", None)
        wanted = rule.attention_scale(head, base_head)
        given = getattr(layer, "scaling", None) or head**-0.5
        if math.isclose(given, wanted, rel_tol=1e-6):
            continue
        note = (
            f"rule {rule.name!r} scales attention logits by {wanted:.6g}; {name!r} (head size {head}) "
            f"uses {given:.6g}.\n  optimizer groups cannot change that"
        )
        if head == base_head:
            note += "; a constant factor, as long as the head size is the same at every width"
        fix = f"multiply the queries of each {type(layer).__name__} by {wanted / given:.6g}"
        if hasattr(layer, "scaling"):
            fix = (
                "for layer in model.modules():\n"
                f'        if hasattr(layer, "scaling"): layer.scaling = {wanted:.6g}'
            )
        return f"{note}\n  try:\n    {fix}"
    return ""
