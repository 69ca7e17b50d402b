"""The wider copy of a Hugging Face model: which of its configuration's numbers are its width."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import hpt
from hpt.errors import ConfigError
from hpt.parameterization.groups import assign
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


FAULTS = {
    "embed_tokens.weight": ("hidden", "input table hidden"),
    "lm_head.weight": ("embedding", "output matrix embedding"),
    "layers.0.self_attn.q_proj.weight": ("readout", "q_proj.weight readout"),
    "layers.0.self_attn.o_proj.weight": ("fixed", "o_proj.weight fixed"),
    "layers.0.mlp.gate.weight": ("hidden", "gate.weight hidden"),
    "layers.0.mlp.experts.gate_up_proj": ("fixed", "fixed"),
}


@pytest.fixture(scope="module")
def judged():
    """A model of experts, its base, and its right roles."""

    def make(n):
        options = {"intermediate_size": n, "num_key_value_heads": 4, "num_local_experts": 4}
        with torch.device("meta"):
            return transformers.MixtralForCausalLM(
                transformers.MixtralConfig(vocab_size=96, **{**LLAMA, "hidden_size": n, **options})
            )

    model, base = make(64), make(32)
    return model, base, assign(model, "mup", base_model=base, warn=False)


@pytest.mark.parametrize("part", FAULTS)
def test_the_judge_of_the_families_finds_each_fault(judged, part):
    model, base, assigned = judged
    assert not list(breadth.faults(model, assigned, base))
    role, complaint = FAULTS[part]
    name = next(name for name in assigned if name.endswith(part))
    wrong = assigned[name]._replace(role=replace(assigned[name].role, role=role))
    found = "; ".join(breadth.faults(model, {**assigned, name: wrong}, base))
    assert complaint in found


def test_the_judge_compares_both_ways_of_asking(monkeypatch):
    """By base_width a norm is called fixed: the ways differ, and one of them is wrong."""

    def ask(model, **options):
        found, refused = whole(model, **options)
        if "base_width" in options:
            norm = next(name for name in found if name.endswith("norm.weight"))
            found[norm] = found[norm]._replace(role=replace(found[norm].role, role="fixed"))
        return found, refused

    whole = breadth.ask
    monkeypatch.setattr(breadth, "ask", ask)
    outcome = breadth.examine("LlamaForCausalLM")
    assert outcome.kind == "wrong" and "by base_width fixed, by base_model vector" in outcome.why


def test_sizes_in_tuples_and_models_without_tokens_are_widened():
    """A vision model says no table of tokens; its configuration says its width."""
    options = {key: value for key, value in LLAMA.items() if key != "num_hidden_layers"}
    config = transformers.ViTConfig(**options, num_hidden_layers=1, image_size=32, patch_size=8)
    with torch.device("meta"):
        model = transformers.ViTForImageClassification(config)
    own, wider = shapes_of(model), shapes_of(wider_huggingface_copy(model))
    assert wider["vit.embeddings.patch_embeddings.projection.weight"] == (128, 3, 8, 8)
    assert wider["classifier.weight"] == (own["classifier.weight"][0], 128)
