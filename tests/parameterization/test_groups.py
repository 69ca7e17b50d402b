"""Roles, optimizer groups and initial weights."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

import hpt
from hpt.errors import ConfigError, RoleError
from hpt.model.transformer import ModelConfig, Transformer, wider_copy
from hpt.parameterization.groups import assign, init_weights, param_groups
from hpt.parameterization.layers import unwrap
from hpt.parameterization.roles import find_roles
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization

CONFIG = ModelConfig(width=64, depth=2, d_head=16, vocab_size=50, context=12, bias=True)
SMALL = ModelConfig(width=32, depth=2, d_head=8, vocab_size=20, context=8)


def roles_of(**options):
    c = dataclasses.replace(CONFIG, **options)
    return {name: r.role for name, r in find_roles(Transformer(c), wider_copy(c)).items()}


def test_roles_of_the_transformer():
    found = roles_of()
    assert found["token_embedding.weight"] == found["position_embedding.weight"] == "embedding"
    assert found["readout.weight"] == "readout"
    hidden = {name for name, role in found.items() if role == "hidden"}
    ends = ("query.weight", "key.weight", "value.weight", "out.weight", "up.weight", "down.weight")
    assert len(hidden) == 12 and all(name.endswith(ends) for name in hidden)
    assert all(role == "vector" for name, role in found.items() if name.endswith((".bias", ".gain")))


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
    assert {r for n, r in found.items() if ".attention." in n and n.endswith("weight")} == {"hidden"}


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
    apart = {g["name"]: g for g in param_groups(model, "mup", lr=0.01, weight_decay=0.1, decay="independent")}
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
    assert std["token_embedding.weight"] == close(1) and std["position_embedding.weight"] == close(1)
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
    with pytest.raises(RoleError, match="missing"):
        param_groups(Foreign(64), "sp", lr=0.1, base_model=nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="lr=-1"):
        param_groups(Transformer(CONFIG), "sp", lr=-1)


def test_three_ways_to_decay():
    """What a step takes off a weight: lr·λ of the group; λ; the given lr times λ."""

    def shrink(**options):
        groups = hpt.param_groups(
            Transformer(SMALL), "mup-table3", lr=0.01, weight_decay=0.5, base_width=8, **options
        )
        return {g["name"]: g["lr"] * g["weight_decay"] for g in groups if g["name"] != "vector"}

    roles = ("embedding", "hidden", "readout")
    assert shrink(decay="constant") == pytest.approx(dict.fromkeys(roles, 0.005))
    assert shrink(decay="independent") == pytest.approx(dict.fromkeys(roles, 0.5))
    assert shrink() == pytest.approx(dict.fromkeys(roles, 0.005))  # λ·m where the LR is η/m
    sp = hpt.param_groups(Transformer(SMALL), "sp+embd", lr=0.01, weight_decay=0.5, base_width=8)
    assert {g["name"]: g["weight_decay"] for g in sp} == {
        "embedding": 0.5,
        "hidden": 0.5,
        "readout": 0.5,
        "vector": 0,
    }
    with pytest.raises(ConfigError, match="coupld"):
        hpt.param_groups(Transformer(SMALL), "sp", lr=0.1, decay="coupld")


@pytest.mark.parametrize(
    ("decay_on", "decaying"),
    [
        ("matrices", {"embedding", "hidden", "readout"}),
        ("hidden", {"hidden"}),
        ("all", {"embedding", "hidden", "readout", "vector"}),
    ],
)
def test_which_roles_decay(decay_on, decaying):
    groups = hpt.param_groups(Transformer(SMALL), "sp+ln", lr=0.01, weight_decay=0.5, decay_on=decay_on)
    assert {g["name"] for g in groups if g["weight_decay"]} == decaying
    assert {g["weight_decay"] for g in groups} <= {0.0, 0.5}
    with pytest.raises(ConfigError, match="hiden"):
        hpt.param_groups(Transformer(SMALL), "sp", lr=0.1, decay_on="hiden")


def test_epsilon_is_scaled_by_completep():
    groups = hpt.param_groups(Transformer(SMALL), "completep", lr=0.01, base_width=8, forward="in_model")
    assert {g["eps"] for g in groups} == {1e-8 / 4}
    assert all("eps" not in g for g in hpt.param_groups(Transformer(SMALL), "sp", lr=0.01))
    absorbed = hpt.param_groups(
        Transformer(SMALL), "completep", lr=0.01, base_width=8, forward="absorb", eps=1e-6
    )
    assert {g["name"]: g["eps"] for g in absorbed} == pytest.approx(
        {"embedding": 2.5e-7, "hidden": 2.5e-7, "readout": 1e-6, "vector": 2.5e-7}
    )


def test_u_mup_absorbed_has_mup_sizes():
    scales = {n: a.scales for n, a in assign(Transformer(SMALL), "u-mup", forward="absorb").items()}
    hidden, readout = scales["blocks.0.attention.key.weight"], scales["readout.weight"]
    assert (hidden.init_std, hidden.lr) == pytest.approx((32**-0.5, 1 / 32))
    assert (readout.init_std, readout.lr) == pytest.approx((1 / 32, 1 / 32))
    assert scales["token_embedding.weight"].lr == pytest.approx(32**-0.5)
    assert math.isclose(hidden.lr * hidden.decay, 32**-0.5)  # lr·λ is what it was


def tied(n):
    model = nn.ModuleDict(
        {"words": nn.Embedding(30, n), "body": nn.Linear(n, n), "out": nn.Linear(n, 30, bias=False)}
    )
    model["out"].weight = model["words"].weight
    return model


def test_tied_matrices_are_one_parameter_with_the_rule_one_picks():
    model = tied(32)
    for choice, lr in (("embedding", 0.4), ("readout", 0.1)):
        groups = hpt.param_groups(model, "sp+embd", lr=0.1, base_model=tied(8), tied=choice)
        assert sum(len(g["params"]) for g in groups) == 3
        group = next(g for g in groups if any(p is model["words"].weight for p in g["params"]))
        assert group["name"] == choice and group["lr"] == pytest.approx(lr)
    role = find_roles(model, tied(8))["words.weight"]
    assert role.tied_to == ("out.weight",)
    as_readout = assign(model, "mup", base_model=tied(8), tied="readout")["words.weight"]
    assert as_readout.role.fan_in == 32 and as_readout.scales.init_std == pytest.approx(32**-0.5 / 2)
    assert find_roles(model, nn.ModuleDict({"words": nn.Embedding(30, 8), "body": nn.Linear(8, 8)}))[
        "words.weight"
    ]


def test_a_multiplier_cannot_be_absorbed_by_a_tied_matrix():
    for forward in (None, "absorb"):
        with pytest.raises(ConfigError, match=r"tied to out\.weight") as error:
            hpt.param_groups(tied(32), "mup-table8", lr=0.1, base_model=tied(8), forward=forward)
        assert "logits * 0.25" in str(error.value)
    assert hpt.param_groups(tied(32), "mup-table8", lr=0.1, base_model=tied(8), forward="in_model")
    with pytest.raises(ConfigError, match="tied='both'"):
        hpt.param_groups(tied(32), "sp", lr=0.1, base_model=tied(8), tied="both")


def test_wrappers_change_nothing():
    model = Transformer(CONFIG)
    compiled = torch.compile(model, backend="eager")
    attributes = dict(vars(model))
    assert unwrap(compiled) is model
    plain, wrapped = (hpt.param_groups(m, "mup", lr=0.1) for m in (model, compiled))
    assert [[id(p) for p in g["params"]] for g in plain] == [[id(p) for p in g["params"]] for g in wrapped]
    assert vars(model) == attributes and all(
        not vars(p) for p in model.parameters()
    )  # nothing is hidden on them


def test_groups_survive_saving_and_copying():
    model = Transformer(CONFIG)
    optimizer = torch.optim.AdamW(hpt.param_groups(model, "mup", lr=0.1))
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    optimizer.step()
    twin = copy.deepcopy(model)
    other = torch.optim.AdamW(hpt.param_groups(twin, "mup", lr=0.1))
    other.load_state_dict(optimizer.state_dict())
    for x, y in zip(optimizer.param_groups, other.param_groups, strict=True):
        assert {k: v for k, v in x.items() if k != "params"} == {k: v for k, v in y.items() if k != "params"}


def test_the_one_liner():
    model = Transformer(CONFIG)
    groups = hpt.embedding_lr_groups(model, lr=0.01, width=64, base_width=16, weight_decay=0.1)
    assert {g["name"]: (g["lr"], g["weight_decay"]) for g in groups} == {
        "embedding": (0.04, 0.1),
        "matrix": (0.01, 0.1),
        "vector": (0.01, 0.0),
    }
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    lr = {
        id(p): g["lr"]
        for g in hpt.param_groups(model, "sp+embd", lr=0.01, base_width=16)
        for p in g["params"]
    }
    assert all(lr[id(p)] == g["lr"] for g in groups for p in g["params"])
    assert hpt.embedding_lr_groups(model, lr=0.01, width=64)[0]["lr"] == 0.64  # as published
    assert [g["name"] for g in hpt.embedding_lr_groups(tied(8), lr=0.1, width=8)] == [
        "embedding",
        "matrix",
        "vector",
    ]
    with pytest.raises(RoleError, match=r"no nn.Embedding"):
        hpt.embedding_lr_groups(nn.Linear(2, 2), lr=0.1, width=2)
    with pytest.raises(ConfigError, match="lr=0"):
        hpt.embedding_lr_groups(model, lr=0, width=2)


class Kept(nn.Module):
    """What an init that draws everything would spoil."""

    def __init__(self, n):
        super().__init__()
        self.words = nn.Embedding(9, n, padding_idx=2)
        self.frozen = nn.Linear(n, n).requires_grad_(False)
        self.zero = nn.Linear(n, n, bias=False)
        self.pixels, self.out = nn.Linear(3072, n), nn.Linear(n, 9)
        nn.init.zeros_(self.zero.weight)


def test_init_keeps_what_a_layer_is():
    model = Kept(64)
    frozen = model.frozen.weight.clone()
    init_weights(model, "sp+embd", base_model=Kept(32), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.frozen.weight, frozen) and not model.zero.weight.any()
    assert not model.words.weight[2].any() and model.words.weight[3].any()
    assert model.pixels.weight.std().item() == pytest.approx(3072**-0.5, rel=0.02)  # a dense input


def test_a_model_that_is_zero_everywhere_is_drawn():
    model = Foreign(32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    init_weights(model, "sp", base_model=Foreign(16))
    assert model.inside.weight.any() and model.out.weight.any()


def test_sgd_follows_both_growths():
    """MuSGD: a hidden matrix of unequal growth trains at growth of the output over the input's."""

    class Unequal(nn.Module):
        def __init__(self, n, inner):
            super().__init__()
            self.words, self.up, self.down = nn.Embedding(9, n), nn.Linear(n, inner), nn.Linear(inner, n)
            self.out = nn.Linear(n, 9)

    model, base = Unequal(64, 256), Unequal(32, 64)
    groups = param_groups(model, "mup-table3", lr=1.0, base_model=base, optimizer="sgd")
    lr = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    assert (lr[model.up.weight], lr[model.down.weight]) == (2.0, 0.5)
