"""The named rules, as the tables of their sources, and the sixteen as rules."""

import dataclasses

import pytest

import hpt
from hpt.errors import ConfigError
from hpt.parameterization.named_rules import NAMED_RULES, trained_by
from hpt.parameterization.rules import Scales
from hpt.parameterization.sixteen import PARAMETERIZATIONS, SWITCHES

M, N, V = 4.0, 64, 50  # width multiplier, width, vocabulary
ROLES = {"embedding": (V, N), "hidden": (N, 4 * N), "readout": (N, V), "vector": (1, N), "fixed": (3, 3)}


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
    "lingle": {
        "embedding": (1, 1, 1, 1),
        "hidden": (1 / M, 1, 1, 1),
        "readout": (1 / M, 1, 1, 1),
        "vector": (1, 1, 1, 1),
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
    "lingle": 1 / 64,
    "u-mup": 1.0,
}  # readout; else 1/√n


@pytest.mark.parametrize("name", NAMED_RULES)
def test_named_rules_are_their_tables(name):
    rule = hpt.rule(name)
    for role, expected in PUBLISHED[name].items():
        s = rule.scales(role, ROLES[role][0], M, ROLES[role][1])
        assert (s.lr, s.multiplier, s.decay, s.eps) == pytest.approx(expected), role
    fixed_lr = PUBLISHED[name]["embedding"][0] if rule.lr_is == "hidden" else 1.0
    assert rule.scales("fixed", 3, M) == Scales(0.0, fixed_lr)
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
        changed = {r for r, (i, o) in ROLES.items() if off.scales(r, i, M, o) != on.scales(r, i, M, o)}
        # What has no growing size has an input that stays, as an embedding has.
        own_roles = {own, "fixed"} if own == "embedding" else {own} - {None}
        assert changed == own_roles
        assert (off.attention != on.attention) == (switch == "Attn")


@pytest.mark.parametrize("name", [*NAMED_RULES, "SP", "μP"])
def test_every_rule_prints_its_table_with_sources(name):
    text, html = str(hpt.rule(name)), hpt.rule(name)._repr_html_()
    assert all(role in text and role in html for role in ROLES)
    assert (hpt.rule(name).table()["source"] != "").all() and "attention logits × 1/" in text
    assert ("η₀" in text) == (hpt.rule(name).lr_is == "base")


def test_names():
    assert hpt.rule("MuP-Table8").name == hpt.rule("mup_table8").name == "mup-table8"
    assert hpt.rule(hpt.rule("mup-table3"), base_width=32).base_width == 32 == hpt.rule("sp", 32).base_width
    with pytest.raises(ConfigError, match="mup-table8"):
        hpt.rule("mup-table9")
    with pytest.raises(ConfigError, match="readuot"):
        hpt.rule("mup-table3").scales("readuot", 1, 1.0)


def test_what_a_run_is_trained_by():
    """One of the sixteen where it is one, so that a run has one identity; no rule bears another's
    name."""
    for p in PARAMETERIZATIONS:
        based = dataclasses.replace(p, base_width=4)
        assert trained_by(hpt.rule(based)) == based == trained_by(based)
    assert trained_by("hayou-liu") == hpt.rule("hayou-liu") and trained_by("mup") == PARAMETERIZATIONS[-1]
    own = hpt.rule("sp").with_power(0.5)
    assert trained_by(own) == own
    for name in ("SP", "sp+embd", "hayou-liu"):
        with pytest.raises(ConfigError, match="laws of that name"):
            trained_by(dataclasses.replace(own, name=name))
