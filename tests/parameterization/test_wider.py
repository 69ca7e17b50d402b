"""The wider copy of a Hugging Face model: which of its configuration's numbers are its width."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import hpt
from hpt.errors import ConfigError
from hpt.parameterization.layers import shapes_of
from hpt.parameterization.wider import huggingface_width, wider_huggingface_copy

transformers = pytest.importorskip("transformers")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import breadth  # noqa: E402

LLAMA = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 1}


def llama(**options):
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=96, **LLAMA | options))


@pytest.mark.parametrize(
    "options", [{}, {"vocab_size": 64}, {"max_position_embeddings": 64}, {"head_dim": 32}]
)
def test_every_size_of_the_width_doubles_and_no_other(options):
    """Also where another number equals the width."""
    model = llama(**options) if "vocab_size" not in options else llama_of(64)
    assert huggingface_width(model) == 64
    own, wider = shapes_of(model), shapes_of(wider_huggingface_copy(model))
    rows = model.config.vocab_size
    for name, shape in own.items():
        counted = {"model.embed_tokens.weight", "lm_head.weight"}
        expected = tuple(
            size if name in counted and size == rows and i == 0 else 2 * size for i, size in enumerate(shape)
        )
        assert wider[name] == expected, name


def llama_of(vocabulary):
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=vocabulary, **LLAMA))


class Reward(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = llama()
        self.config = self.backbone.config
        self.value = nn.Linear(64, 1)


def test_a_wrapper_is_told_to_bring_its_base():
    for model in (Reward(), llama()):
        model.value = nn.Linear(64, 1)
        with pytest.raises(ConfigError, match="base_model="):
            hpt.param_groups(model, "sp+embd", lr=0.1, base_width=32)


@pytest.mark.parametrize("name", breadth.SAMPLE)
def test_roles_of_twenty_families(name):
    """The script's own judgement: right, or refused by a call that works."""
    outcome = breadth.examine(name)
    assert outcome.kind in ("right", "refused"), outcome
