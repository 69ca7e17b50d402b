"""Roles, optimizer groups and initial weights."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from hpt.errors import ConfigError, RoleError
from hpt.model.transformer import ModelConfig, Transformer, wider_copy
from hpt.parameterization.groups import init_weights, param_groups
from hpt.parameterization.roles import roles
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization

CONFIG = ModelConfig(width=64, depth=2, d_head=16, vocab_size=50, context=12, bias=True)


def roles_of(**options):
    c = dataclasses.replace(CONFIG, **options)
    return {name: r.role for name, r in roles(Transformer(c), wider_copy(c)).items()}


def test_roles_of_the_transformer():
    found = roles_of()
    assert found["token_embedding.weight"] == found["position_embedding.weight"] == "embedding"
    assert found["readout.weight"] == "readout"
    hidden = {name for name, role in found.items() if role == "hidden"}
    ends = ("query.weight", "key.weight", "value.weight", "out.weight", "up.weight", "down.weight")
    assert len(hidden) == 12 and all(name.endswith(ends) for name in hidden)
    assert all(
        role == "vector" for name, role in found.items() if name.endswith((".bias", ".gain"))
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kv_heads": 1},
        {"activation": "swiglu"},
        {"tie_readout": True},
        {"norm_gain": "scalar"},
        {"vocab_size": 64},
        {"context": 128},
    ],
    ids=str,
)
def test_roles_are_total_under_options(options):
    found = roles_of(**options)
    assert set(found) == {
        n for n, _ in Transformer(dataclasses.replace(CONFIG, **options)).named_parameters()
    }
    assert {r for n, r in found.items() if ".attention." in n and n.endswith("weight")} == {
        "hidden"
    }


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
def test_groups_hold_each_parameter_once_at_its_rate(p):
    """The learning rates of SCIENCE's table: η·m for embeddings under Embd and vectors under LN,
    else η."""
    model = Transformer(CONFIG)
    groups = param_groups(model, dataclasses.replace(p, base_width=16), lr=0.01)
    rate = {id(x): g["lr"] for g in groups for x in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(rate) == len(list(model.parameters()))
    for name, x in model.named_parameters():
        on = ("embedding" in name and p.embd) or (name.endswith(("gain", "bias")) and p.ln)
        assert rate[id(x)] == pytest.approx(0.04 if on else 0.01), name


def test_groups_serve_any_torch_optimizer():
    model = Transformer(CONFIG)
    for optimizer in (torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop):
        assert len(optimizer(param_groups(model, "sp+embd", lr=0.1)).param_groups) == 4


def test_weight_decay_spares_vectors_and_independent_is_over_lr():
    model = Transformer(CONFIG)
    coupled = {g["name"]: g for g in param_groups(model, "mup", lr=0.01, weight_decay=0.1)}
    apart = {
        g["name"]: g
        for g in param_groups(model, "mup", lr=0.01, weight_decay=0.1, decay="independent")
    }
    assert coupled["vector"]["weight_decay"] == apart["vector"]["weight_decay"] == 0
    for name in ("embedding", "hidden", "readout"):
        assert coupled[name]["weight_decay"] == 0.1
        assert apart[name]["weight_decay"] * apart[name]["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["SP", "SP+Last", "μP"])
def test_initial_sizes(name):
    c = ModelConfig(width=256, depth=3, d_head=32, vocab_size=512, context=64)
    p = Parameterization.parse(name)
    model = Transformer(c)
    init_weights(model, p, generator=torch.Generator().manual_seed(0))
    std = {n: x.detach().std().item() for n, x in model.named_parameters() if x.ndim == 2}
    close = lambda value: pytest.approx(value, rel=0.03)  # noqa: E731
    assert std["token_embedding.weight"] == close(1) and std["position_embedding.weight"] == close(
        1
    )
    assert std["blocks.0.attention.key.weight"] == close(1 / 16) == std["blocks.0.mlp.up.weight"]
    assert std["blocks.1.attention.out.weight"] == close(1 / 16 / math.sqrt(6))
    assert std["blocks.1.mlp.down.weight"] == close(1 / 32 / math.sqrt(6))
    assert std["readout.weight"] == close(1 / 256 if p.last else 1 / 16)
    assert all((x == 1).all() for n, x in model.named_parameters() if n.endswith("gain"))


def test_parameterizations_draw_the_same_numbers():
    drawn = {}
    for name in ("SP", "μP"):
        model = Transformer(CONFIG)
        init_weights(model, name, generator=torch.Generator().manual_seed(3))
        drawn[name] = dict(model.named_parameters())
    assert torch.equal(drawn["SP"]["blocks.0.mlp.up.weight"], drawn["μP"]["blocks.0.mlp.up.weight"])
    torch.testing.assert_close(drawn["SP"]["readout.weight"] / 8, drawn["μP"]["readout.weight"])


def test_vectors_start_at_constants():
    """Gains at one, biases at zero, whatever torch's global generator did before."""
    model = Transformer(CONFIG)
    init_weights(model, "mup", generator=torch.Generator().manual_seed(0))
    for name, x in model.named_parameters():
        if x.ndim == 1:
            assert (x == (1 if name.endswith("gain") else 0)).all(), name


def test_zero_queries():
    model = Transformer(dataclasses.replace(CONFIG, zero_query_init=True))
    init_weights(model, "SP", generator=torch.Generator().manual_seed(0))
    assert (
        model.blocks[1].attention.query.weight.abs().max()
        == 0
        < model.blocks[1].attention.key.weight.abs().max()
    )


class Foreign(nn.Module):
    def __init__(self, width, vocabulary=30):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.inside = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(3 * width)
        self.out = nn.Linear(3 * width, vocabulary)


def test_a_foreign_model_by_a_narrower_copy():
    model = Foreign(64)
    with torch.device("meta"):
        base = Foreign(16)
    groups = {g["name"]: g for g in param_groups(model, "mup", lr=0.01, base_model=base)}
    assert (
        groups["embedding"]["lr"] == pytest.approx(0.04)
        and groups["embedding"]["params"][0] is model.words.weight
    )
    assert groups["hidden"]["params"][0] is model.inside.weight and groups["hidden"]["lr"] == 0.01
    assert {id(p) for p in groups["vector"]["params"]} == {
        id(p) for p in (model.inside.bias, model.norm.weight, model.norm.bias, model.out.bias)
    }
    init_weights(model, "mup", base_model=base, generator=torch.Generator().manual_seed(0))
    assert model.out.weight.detach().std().item() == pytest.approx(192**-0.5 / 2, rel=0.05)


def test_mistakes_are_told():
    with pytest.raises(ConfigError, match="base_model"):
        param_groups(Foreign(64), "sp", lr=0.1)
    with pytest.raises(RoleError, match="both models"):
        param_groups(Foreign(64), "sp", lr=0.1, base_model=Foreign(64))
    with pytest.raises(RoleError, match="missing"):
        param_groups(Foreign(64), "sp", lr=0.1, base_model=nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="lr=-1"):
        param_groups(Transformer(CONFIG), "sp", lr=-1)
    convolution = nn.Sequential(nn.Conv1d(4, 8, 3))
    with pytest.raises(RoleError, match="Conv1d"):
        param_groups(convolution, "sp", lr=0.1, base_model=nn.Sequential(nn.Conv1d(2, 4, 3)))
