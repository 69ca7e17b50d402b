"""The named rules, as the tables of their sources, and the sixteen as rules."""

import math

import pytest
import torch
import torch.nn.functional as F

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.groups import assign
from hpt.parameterization.optimizers import SOURCES, absorb, for_optimizer
from hpt.parameterization.rules import NAMED_RULES, Law
from hpt.parameterization.sixteen import PARAMETERIZATIONS, SWITCHES, Scales

M, N, V = 4.0, 64, 50  # width multiplier, width, vocabulary
ROLES = {
    "embedding": (V, N),
    "hidden": (N, 4 * N),
    "readout": (N, V),
    "vector": (1, N),
    "fixed": (3, 3),
}

# (LR, multiplier, decay, ε) of embedding, hidden, readout, vector, in terms of m = 4.
PUBLISHED = {
    "mup-table3": {
        "embedding": (1, 1, 1, 1),
        "hidden": (1 / M, 1, M, 1),
        "readout": (1 / M, 1, M, 1),
        "vector": (1, 1, 1, 1),
    },
    "mup-table8": {
        "embedding": (1, 1, 1, 1),
        "hidden": (1 / M, 1, M, 1),
        "readout": (1, 1 / M, 1, 1),
        "vector": (1, 1, 1, 1),
    },
    "everett-full-align": {
        "embedding": (1, 1, 1, 1),
        "hidden": (1 / M, 1, 1, 1),
        "readout": (1 / M, 1, 1, 1),
        "vector": (1, 1, 1, 1),
    },
    "everett-no-align": {
        "embedding": (1, 1, 1, 1),
        "hidden": (M**-0.5, 1, 1, 1),
        "readout": (M**-0.5, 1, 1, 1),
        "vector": (1, 1, 1, 1),
    },
    "hayou-liu": {
        "embedding": (M**0.5, 1, 1, 1),
        "hidden": (1, 1, 1, 1),
        "readout": (1, 1, 1, 1),
        "vector": (1, 1, 1, 1),
    },
    "completep": {
        "embedding": (1, 1, 1, 1 / M),
        "hidden": (1 / M, 1, M, 1 / M),
        "readout": (1, 1 / M, 1, 1 / M),
        "vector": (1, 1, 1, 1 / M),
    },
    "u-mup": {
        "embedding": (1 / 8, 1, 1, 1),
        "hidden": (1 / 8, 1 / 8, 1, 1),
        "readout": (1, 1 / 64, 1, 1),
        "vector": (1, 1, 1, 1),
    },
}
STDS = {
    "mup-table3": 1 / 8 / 2,
    "mup-table8": 1 / 8 * 2,
    "completep": 1 / 8 * 2,
    "u-mup": 1.0,
}  # readout; else 1/√n


@pytest.mark.parametrize("name", NAMED_RULES)
def test_named_rules_are_their_tables(name):
    rule = hpt.rule(name)
    for role, expected in PUBLISHED[name].items():
        s = rule.scales(role, ROLES[role][0], M, ROLES[role][1])
        assert (s.lr, s.multiplier, s.decay, s.eps) == pytest.approx(expected), role
    assert rule.scales("fixed", 3, M) == Scales(0.0, 1.0)
    assert rule.scales("readout", N, M, V).init_std == pytest.approx(STDS.get(name, 1 / 8))
    assert rule.scales("hidden", N, M, N).init_std == (1 if name == "u-mup" else 1 / 8)
    assert rule.scales("embedding", V, M, N).init_std == 1


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
def test_the_sixteen_as_rules_say_the_same_numbers(p):
    rule = hpt.rule(p)
    for role, (fan_in, fan_out) in ROLES.items():
        for m in (1.0, 3.0, M):
            assert rule.scales(role, fan_in, m, fan_out) == p.scales(role, fan_in, m, fan_out), role
    assert rule.attention_scale(32) == pytest.approx(p.attention_scale(32), rel=1e-15)
    assert rule.multiplier(64) == p.multiplier(64) and rule.lr_is == "hidden"


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_changes_exactly_its_own_row(switch):
    own = {"Embd": "embedding", "LN": "vector", "Last": "readout", "Attn": None}[switch]
    for p in PARAMETERIZATIONS:
        if switch in p.switches:
            continue
        off, on = (
            hpt.rule(p),
            hpt.rule(next(q for q in PARAMETERIZATIONS if q.switches == p.switches | {switch})),
        )
        changed = {
            r for r, (i, o) in ROLES.items() if off.scales(r, i, M, o) != on.scales(r, i, M, o)
        }
        assert changed == ({own} if own else set())
        assert (off.attention != on.attention) == (switch == "Attn")


def test_laws_print_what_they_compute():
    assert [
        str(x)
        for x in (Law(), Law(m=1.0), Law(fan_in=-0.5, m=-0.5), Law(fan_in=-0.5, m=0.5), Law(m=-1.0))
    ] == ["1", "m", "1/√fan_in/√m", "√m/√fan_in", "1/m"]
    assert Law(fan_in=-0.5, fan_out=2.0, m=1.0)(16, 3, 5) == pytest.approx(9 * 5 / 4)


@pytest.mark.parametrize("name", [*NAMED_RULES, "SP", "μP"])
def test_every_rule_prints_its_table_with_sources(name):
    text, html = str(hpt.rule(name)), hpt.rule(name)._repr_html_()
    assert all(role in text and role in html for role in ROLES)
    assert (hpt.rule(name).table()["source"] != "").all() and "attention logits × 1/" in text
    assert ("η₀" in text) == (hpt.rule(name).lr_is == "base")


def test_names():
    assert hpt.rule("MuP-Table8").name == hpt.rule("mup_table8").name == "mup-table8"
    assert (
        hpt.rule(hpt.rule("mup-table3"), base_width=32).base_width
        == 32
        == hpt.rule("sp", 32).base_width
    )
    with pytest.raises(ConfigError, match="mup-table8"):
        hpt.rule("mup-table9")
    with pytest.raises(ConfigError, match="readuot"):
        hpt.rule("mup-table3").scales("readuot", 1, 1.0)


def test_attention_is_one_over_d_and_equal_at_the_base():
    rule = hpt.rule("mup-table3")
    assert rule.attention_scale(32) == 1 / 32
    assert rule.attention_scale(32, 32) == pytest.approx(32**-0.5)
    assert rule.attention_scale(64, 32) == pytest.approx(32**-0.5 / 2)
    assert (
        hpt.rule("completep").attention_scale(64, 64) == hpt.rule("sp").attention_scale(64) == 1 / 8
    )


def test_table3_is_table8_without_its_multiplier():
    """The abc-symmetry on the numbers: (multiplier, std, LR, λ) → (1, std·a, LR·a, λ/a)."""
    three, eight = hpt.rule("mup-table3"), hpt.rule("mup-table8")
    for role, (fan_in, fan_out) in ROLES.items():
        a, b = (
            three.scales(role, fan_in, M, fan_out),
            absorb(eight.scales(role, fan_in, M, fan_out)),
        )
        assert a[:4] == pytest.approx(b[:4]), role
    for optimizer in ("sgd", "adafactor", "lion"):
        for role, (fan_in, fan_out) in ROLES.items():
            a, b = (
                absorb(for_optimizer(r, optimizer, role, fan_in, M, fan_out), optimizer, role)
                for r in (three, eight)
            )
            assert a[:4] == pytest.approx(b[:4]), (optimizer, role)


CONFIG = ModelConfig(width=32, depth=2, d_head=8, vocab_size=20, context=8)


def curve(
    rule,
    optimizer="adamw",
    multiplier=1.0,
    steps=12,
    make=None,
    dtype=torch.float64,
    rest_lr=None,
    **options,
):
    """Training losses and final weights of our Transformer under a rule."""
    lr = {"adamw": 0.02, "lion": 0.005, "sgd": 0.5, "adafactor": 0.05, "muon": 0.02}[optimizer]
    model = Transformer(CONFIG, readout_multiplier=multiplier).to(dtype)
    arguments = {"base_width": 8, "optimizer": optimizer, **options}
    hpt.init_weights(model, rule, generator=torch.Generator().manual_seed(0), **arguments)
    groups = hpt.param_groups(
        model, rule, lr=lr, weight_decay=0.1, eps=1e-14, rest_lr=rest_lr, **arguments
    )
    make = make or (lambda g: [torch.optim.AdamW(g, betas=(0.9, 0.95))])
    optimizers = make(groups)
    ids = torch.randint(20, (4, 9), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        losses.append(loss.item())
    return losses, {n: p.detach() for n, p in model.named_parameters()}


def test_table3_and_table8_train_alike():
    three, _ = curve("mup-table3")
    in_model, _ = curve("mup-table8", multiplier=1 / 4, forward="in_model")
    absorbed, _ = curve("mup-table8", forward="absorb")
    assert three[-1] < three[0] - 0.3
    assert three == pytest.approx(in_model, rel=1e-8)
    assert in_model == pytest.approx(absorbed, rel=1e-10)


def sgd(groups):
    return [
        torch.optim.SGD([{k: v for k, v in g.items() if k != "eps"} for g in groups], momentum=0.9)
    ]


def test_sgd_forms_train_alike():
    three, _ = curve("mup-table3", "sgd", make=sgd)
    eight, _ = curve("mup-table8", "sgd", multiplier=1 / 4, forward="in_model", make=sgd)
    absorbed, _ = curve("mup-table8", "sgd", forward="absorb", make=sgd)
    assert three[-1] < three[0] and three == pytest.approx(eight, rel=1e-8)
    assert eight == pytest.approx(absorbed, rel=1e-8)


def test_adafactor_forms_train_alike():
    def make(groups):
        return [
            torch.optim.Adafactor(
                [
                    {**{k: v for k, v in g.items() if k != "eps"}, "eps": (None, 1e-12)}
                    for g in groups
                ]
            )
        ]

    three, _ = curve("mup-table3", "adafactor", make=make, dtype=torch.float32)
    absorbed, _ = curve("mup-table8", "adafactor", forward="absorb", make=make, dtype=torch.float32)
    eight, _ = curve(
        "mup-table8",
        "adafactor",
        multiplier=1 / 4,
        forward="in_model",
        make=make,
        dtype=torch.float32,
    )
    assert three[-1] < three[0] and three == pytest.approx(eight, rel=1e-3)
    assert eight == pytest.approx(absorbed, rel=1e-3)


def test_muon_takes_the_hidden_matrices():
    def make(groups):
        hidden = [g for g in groups if g["name"] == "hidden"]
        assert {g["lr"] for g in hidden} == {0.02} and {
            g["lr"] for g in groups if g not in hidden
        } == {1e-3, 1e-3 / 4}
        return [
            torch.optim.Muon([{k: v for k, v in g.items() if k != "eps"} for g in hidden]),
            torch.optim.AdamW([g for g in groups if g["name"] != "hidden"]),
        ]

    losses, _ = curve("mup-table3", "muon", make=make, rest_lr=1e-3, dtype=torch.float32)
    assert losses[-1] < losses[0]


def test_at_base_width_all_rules_that_agree_on_attention_are_one_run():
    """At m = 1 every named rule but u-μP, whose multipliers are absolute, is SP, bit for bit."""
    names = [n for n in NAMED_RULES if n != "u-mup"]
    runs = {
        n: curve(n, base_width=32, dtype=torch.float32) for n in ("SP", "SP+Embd+LN+Last", *names)
    }
    losses, weights = runs.pop("SP")
    for name, (other, others) in runs.items():
        assert other == losses, name
        assert all(torch.equal(weights[n], others[n]) for n in weights), name


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        ("sp+embd", "sgd"),
        ("everett-no-align", "muon"),
        ("hayou-liu", "lion"),
        ("completep", "adafactor"),
    ],
)
def test_optimizers_without_a_source_are_refused(rule, optimizer):
    with pytest.raises(ConfigError, match=f"no learning rates for '{optimizer}'") as error:
        hpt.param_groups(
            Transformer(CONFIG),
            rule,
            lr=0.1,
            optimizer=optimizer,
            rest_lr=0.1 if optimizer == "muon" else None,
        )
    assert all(name in str(error.value) for name in SOURCES[optimizer][0])


def test_optimizer_mistakes_are_told():
    with pytest.raises(ConfigError, match="did you mean 'sgd'"):
        hpt.param_groups(Transformer(CONFIG), "sp", lr=0.1, optimizer="sgdm")
    with pytest.raises(ConfigError, match="rest_lr"):
        hpt.param_groups(Transformer(CONFIG), "mup-table3", lr=0.1, optimizer="muon")


def test_sgd_rates_are_the_sgd_column():
    """Table 3, SGD: inputs and vectors η·m, hidden η, readout η/m; Table 8: readout η·m."""
    for name, readout in (("mup-table3", 1 / M), ("mup-table8", M)):
        lr = {r: for_optimizer(hpt.rule(name), "sgd", r, i, M, o).lr for r, (i, o) in ROLES.items()}
        assert lr == {"embedding": M, "vector": M, "hidden": 1, "readout": readout, "fixed": 1}


def test_adafactor_divides_by_the_growth_of_the_init():
    lr = {
        r: for_optimizer(hpt.rule("everett-full-align"), "adafactor", r, i, M, o).lr
        for r, (i, o) in ROLES.items()
    }
    assert lr["hidden"] == pytest.approx(M**-0.5) == lr["readout"] and lr["embedding"] == 1


def test_three_ways_to_decay():
    """What a step takes off a weight: lr·λ of the group; λ; the given lr times λ."""

    def shrink(**options):
        groups = hpt.param_groups(
            Transformer(CONFIG), "mup-table3", lr=0.01, weight_decay=0.5, base_width=8, **options
        )
        return {g["name"]: g["lr"] * g["weight_decay"] for g in groups if g["name"] != "vector"}

    roles = ("embedding", "hidden", "readout")
    assert shrink(decay="constant") == pytest.approx(dict.fromkeys(roles, 0.005))
    assert shrink(decay="independent") == pytest.approx(dict.fromkeys(roles, 0.5))
    assert shrink() == pytest.approx(dict.fromkeys(roles, 0.005))  # λ·m where the LR is η/m
    sp = hpt.param_groups(Transformer(CONFIG), "sp+embd", lr=0.01, weight_decay=0.5, base_width=8)
    assert {g["name"]: g["weight_decay"] for g in sp} == {
        "embedding": 0.5,
        "hidden": 0.5,
        "readout": 0.5,
        "vector": 0,
    }
    with pytest.raises(ConfigError, match="coupld"):
        hpt.param_groups(Transformer(CONFIG), "sp", lr=0.1, decay="coupld")


def test_epsilon_is_scaled_by_completep():
    groups = hpt.param_groups(
        Transformer(CONFIG), "completep", lr=0.01, base_width=8, forward="in_model"
    )
    assert {g["eps"] for g in groups} == {1e-8 / 4}
    assert all("eps" not in g for g in hpt.param_groups(Transformer(CONFIG), "sp", lr=0.01))
    absorbed = hpt.param_groups(
        Transformer(CONFIG), "completep", lr=0.01, base_width=8, forward="absorb", eps=1e-6
    )
    assert {g["name"]: g["eps"] for g in absorbed} == pytest.approx(
        {"embedding": 2.5e-7, "hidden": 2.5e-7, "readout": 1e-6, "vector": 2.5e-7}
    )


def test_a_multiplier_is_said_and_never_forgotten():
    with pytest.raises(ConfigError, match='forward="absorb"') as error:
        hpt.param_groups(Transformer(CONFIG), "mup-table8", lr=0.1, base_width=8)
    assert "register_forward_pre_hook" in str(error.value) and "0.25" in str(error.value)
    with pytest.raises(ConfigError, match='forward="absorb"'):
        hpt.init_weights(Transformer(CONFIG), "u-mup", base_width=8)
    assert hpt.param_groups(
        Transformer(CONFIG), "mup-table8", lr=0.1, base_width=32
    )  # m = 1: nothing to multiply
    with pytest.raises(ConfigError, match="forward='absrb'"):
        hpt.param_groups(Transformer(CONFIG), "mup-table8", lr=0.1, forward="absrb")


def test_the_two_lines_of_the_message_do_what_they_say():
    """The printed hook gives the logits of a readout multiplied by 1/m, bias apart."""
    model = Transformer(CONFIG)
    ids = torch.arange(8)[None]
    before = model(ids)
    with pytest.raises(ConfigError) as error:
        hpt.param_groups(model, "mup-table8", lr=0.1, base_width=8)
    lines = str(error.value).split("or add\n")[1].split("\n  and pass")[0]
    exec("\n".join(line.strip() for line in lines.splitlines()), {"model": model})
    torch.testing.assert_close(model(ids), before / 4)


def test_u_mup_absorbed_has_mup_sizes():
    scales = {
        n: a.scales for n, a in assign(Transformer(CONFIG), "u-mup", forward="absorb").items()
    }
    hidden, readout = scales["blocks.0.attention.key.weight"], scales["readout.weight"]
    assert (hidden.init_std, hidden.lr) == pytest.approx((32**-0.5, 1 / 32))
    assert (readout.init_std, readout.lr) == pytest.approx((1 / 32, 1 / 32))
    assert scales["token_embedding.weight"].lr == pytest.approx(32**-0.5)
    assert math.isclose(hidden.lr * hidden.decay, 32**-0.5)  # lr·λ is what it was
