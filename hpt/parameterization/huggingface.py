"""A wider copy of a Hugging Face model, from its own configuration; transformers itself is not imported."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hpt.parameterization.roles import unwrap

_WIDTH = ("hidden_size", "n_embd", "d_model")
_GROWS_ALONG = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner", "ffn_dim",
                "num_attention_heads", "n_head", "num_key_value_heads")


def config_width(model: nn.Module) -> int | None:
    """Width of a model that carries a Hugging Face configuration; None for any other."""
    config = getattr(unwrap(model), "config", None)
    if not hasattr(config, "model_type"):
        return None
    return next((getattr(config, key) for key in _WIDTH if isinstance(getattr(config, key, None), int)), None)


def wider_copy(model: nn.Module) -> nn.Module:
    """The same architecture twice as wide, shapes only: heads and inner sizes grow along, the head size stays."""
    model = unwrap(model)
    config = copy.deepcopy(model.config)
    aliases = getattr(config, "attribute_map", {})  # GPT-2 has hidden_size as another name of n_embd
    for key in (*_WIDTH, *_GROWS_ALONG):
        size = getattr(config, key, None)
        if isinstance(size, int) and key not in aliases:
            setattr(config, key, 2 * size)
    with torch.device("meta"):
        return type(model)(config)
