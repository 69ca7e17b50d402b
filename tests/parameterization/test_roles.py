"""Roles: total, strict, and every doubt told with the call that settles it."""

import copy

import pytest
import torch
from torch import nn

import hpt
from hpt.errors import ConfigError, ForwardWarning, RoleError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.groups import assign
from hpt.parameterization.roles import roles, unwrap


class Odd(nn.Module):
    """Raw parameters whose axes no layer tells."""

    def __init__(self, n):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(9, n))
        self.mix = nn.Parameter(torch.zeros(n, 2 * n))
        self.heads = nn.Parameter(torch.zeros(4, n, n))
        self.constant = nn.Linear(3, 5)
        self.gain = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(n, 9)


SAID = {"place": "embedding", "mix": ("hidden", "in out"), "heads": ("hidden", "heads out in")}


def test_a_mapping_settles_what_shapes_cannot():
    found = roles(Odd(32), Odd(8), SAID)
    assert set(found) == {n for n, _ in Odd(8).named_parameters()}
    sizes = {n: (r.role, r.fan_in, r.fan_out, r.growth) for n, r in found.items()}
    assert sizes == {
        "place": ("embedding", 9, 32, 4),
        "mix": ("hidden", 32, 64, 4),
        "heads": ("hidden", 32, 32, 4),
        "constant.weight": ("fixed", 3, 5, None),
        "constant.bias": ("vector", 1, 5, None),
        "gain": ("vector", 1, 1, None),
        "out.weight": ("readout", 32, 9, 4),
        "out.bias": ("vector", 1, 9, None),
    }


@pytest.mark.parametrize("missing", SAID)
def test_a_doubt_names_parameter_shapes_and_call(missing):
    said = {k: v for k, v in SAID.items() if k != missing}
    with pytest.raises(RoleError) as error:
        roles(Odd(32), Odd(8), said)
    text = str(error.value)
    shapes = [str(tuple(Odd(n).get_parameter(missing).shape)) for n in (32, 8)]
    assert (
        repr(missing) in text
        and all(s in text for s in shapes)
        and f'roles={{"{missing}": (' in text
    )


def test_the_call_in_the_message_works():
    said = dict(SAID)
    del said["heads"]
    with pytest.raises(RoleError) as error:
        roles(Odd(32), Odd(8), said)
    call = str(error.value).split("roles=")[1].split("}")[0] + "}"
    assert roles(Odd(32), Odd(8), {**said, **eval(call)})["heads"].role == "hidden"


def test_convolutions_by_mapping():
    model, base = (nn.Sequential(nn.Conv1d(n, 2 * n, 3)) for n in (8, 4))
    found = roles(model, base, {"0.weight": ("hidden", "out in kernel")})
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (24, 16)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({**SAID, "plaice": "embedding"}, "no parameter matches 'plaice'"),
        ({**SAID, "place": "embeding"}, "did you mean 'embedding'"),
        ({**SAID, "heads": ("hidden", "out in other")}, "axis 'other' grows too"),
        ({**SAID, "mix": ("hidden", "out")}, "which axis is its input"),
    ],
)
def test_a_wrong_mapping_is_told(mapping, message):
    with pytest.raises(RoleError, match=message):
        roles(Odd(32), Odd(8), mapping)


def test_copies_that_do_not_match():
    with pytest.raises(RoleError, match="both models"):
        roles(Odd(8), Odd(8))
    with pytest.raises(RoleError, match="missing in the other copy"):
        roles(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4)), nn.Sequential(nn.Linear(2, 3)))


class Blocks(nn.Module):
    def __init__(self, n, inner):
        super().__init__()
        self.words = nn.Embedding(10, n)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(n, inner), "down": nn.Linear(inner, n)})
            for _ in range(2)
        )


def test_an_inner_size_that_was_forgotten_is_an_error():
    with pytest.raises(
        RoleError, match=r"layers.0.up.weight.*does not grow.*layers.0.down.weight"
    ) as error:
        roles(Blocks(32, 64), Blocks(16, 64))
    assert "intermediate_size" in str(error.value) and "(64, 16)" in str(error.value)
    meant = {"layers.*.up.weight": "readout", "layers.*.down.weight": "embedding"}
    assert roles(Blocks(32, 64), Blocks(16, 64), meant)["layers.1.down.weight"].role == "embedding"


def test_torch_attention_layers_have_roles():
    def make(n):
        return nn.ModuleDict(
            {"body": nn.TransformerEncoderLayer(n, n // 4, 4 * n), "words": nn.Embedding(7, n)}
        )

    found = {n: r.role for n, r in roles(make(32), make(16)).items()}
    assert {r for n, r in found.items() if n.endswith("proj.weight") or "in_proj_weight" in n} == {
        "hidden"
    }
    with pytest.warns(ForwardWarning, match="multiply the queries"):
        hpt.param_groups(make(32), "mup", lr=0.1, base_model=make(16))


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
    role = roles(model, tied(8))["words.weight"]
    assert role.tied_to == ("out.weight",)
    as_readout = assign(model, "mup", base_model=tied(8), tied="readout")["words.weight"]
    assert as_readout.role.fan_in == 32 and as_readout.scales.init_std == pytest.approx(
        32**-0.5 / 2
    )
    assert roles(model, nn.ModuleDict({"words": nn.Embedding(30, 8), "body": nn.Linear(8, 8)}))[
        "words.weight"
    ]


def test_what_tying_costs_is_reported():
    text = str(hpt.describe(tied(32), "mup", lr=0.1, base_model=tied(8)))
    assert "words.weight is tied to out.weight and follows the embedding's rule" in text
    assert "steps are 4 " in text and f"start {1 / (32**-0.5 / 2):.4g} times" in text
    other = str(hpt.describe(tied(32), "mup", lr=0.1, base_model=tied(8), tied="readout"))
    assert "follows the readout's rule" in other and "steps are 0.25" in other


def test_a_multiplier_cannot_be_absorbed_by_a_tied_matrix():
    for forward in (None, "absorb"):
        with pytest.raises(ConfigError, match=r"tied to out\.weight") as error:
            hpt.param_groups(tied(32), "mup-table8", lr=0.1, base_model=tied(8), forward=forward)
        assert "logits * 0.25" in str(error.value)
    assert hpt.param_groups(tied(32), "mup-table8", lr=0.1, base_model=tied(8), forward="in_model")
    with pytest.raises(ConfigError, match="tied='both'"):
        hpt.param_groups(tied(32), "sp", lr=0.1, base_model=tied(8), tied="both")


CONFIG = ModelConfig(width=64, depth=2, d_head=16, vocab_size=50, context=12)


def test_description_adds_up():
    model = Transformer(CONFIG)
    d = hpt.describe(model, "sp+embd", lr=0.01, base_width=16, weight_decay=0.1)
    frame, groups = (
        d.to_frame(),
        hpt.param_groups(model, "sp+embd", lr=0.01, base_width=16, weight_decay=0.1),
    )
    assert list(frame["name"]) == [n for n, _ in model.named_parameters()]
    total = d.totals.set_index("role").loc["all"]
    assert (
        total["elements"] == sum(p.numel() for p in model.parameters()) == frame["elements"].sum()
    )
    assert total["tensors"] == len(list(model.parameters()))
    assert all(d.totals[c].iloc[:-1].sum() == total[c] for c in ("elements", "tensors"))
    lr = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert [lr[id(p)] for p in model.parameters()] == list(frame["lr"])
    embedding = frame[frame["name"] == "token_embedding.weight"].iloc[0]
    assert (embedding["m"], embedding["lr"], embedding["init_std"], embedding["shape"]) == (
        4,
        0.04,
        1,
        "50×64",
    )
    text, html = str(d), d._repr_html_()
    assert (
        "blocks.*.mlp.up.weight" in text
        and "blocks.*.mlp.up.weight" in html
        and "embedding" in text
    )


def test_description_says_what_groups_cannot_do():
    d = hpt.describe(Transformer(CONFIG), "mup-table8", lr=0.01, base_width=16)
    assert d.frame.set_index("name").loc["readout.weight", "multiplier"] == 0.25
    assert any('forward="absorb"' in n for n in d.notes)
    settled = hpt.describe(
        Transformer(CONFIG), "mup-table8", lr=0.01, base_width=16, forward="absorb"
    )
    assert (settled.frame["multiplier"] == 1).all() and not settled.notes


def test_wrappers_change_nothing():
    model = Transformer(CONFIG)
    compiled = torch.compile(model, backend="eager")
    attributes = dict(vars(model))
    assert unwrap(compiled) is model
    plain, wrapped = (hpt.param_groups(m, "mup", lr=0.1) for m in (model, compiled))
    assert [[id(p) for p in g["params"]] for g in plain] == [
        [id(p) for p in g["params"]] for g in wrapped
    ]
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
        assert {k: v for k, v in x.items() if k != "params"} == {
            k: v for k, v in y.items() if k != "params"
        }


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
