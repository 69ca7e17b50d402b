"""The sixteen parameterizations against the published table."""

import itertools
import math

import pytest

from hpt.errors import ConfigError
from hpt.parameterization.sixteen import PARAMETERIZATIONS, SWITCHES, Parameterization, sixteen_table

PUBLISHED = (
    "SP SP+Embd SP+Attn SP+LN SP+Last SP+Attn+Embd SP+Attn+LN SP+Attn+Last SP+Embd+LN SP+Embd+Last "
    "SP+LN+Last μP-Embd μP-Attn μP-LN μP-Last μP"
).split()

# Width 64 at base width 16, so m = 4; d_head 16. Per switch: (off, on).
M, WIDTH, D_HEAD = 4.0, 64, 16
EXPECTED = {
    "Embd": lambda on: {"embedding lr": M if on else 1.0},
    "LN": lambda on: {"vector lr": M if on else 1.0},
    "Attn": lambda on: {"attention": 1 / 16 if on else 1 / 4},
    "Last": lambda on: {"readout std": 1 / 8 / 2 if on else 1 / 8},
}


def rules(p):
    return {
        "embedding lr": p.scales("embedding", 1000, M).lr,
        "vector lr": p.scales("vector", 1, M).lr,
        "attention": p.attention_scale(D_HEAD),
        "readout std": p.scales("readout", WIDTH, M).init_std,
        "hidden lr": p.scales("hidden", WIDTH, M).lr,
        "readout lr": p.scales("readout", WIDTH, M).lr,
        "hidden std": p.scales("hidden", 256, M).init_std,
        "embedding std": p.scales("embedding", 1000, M).init_std,
    }


def test_names_are_the_published_sixteen_in_order():
    assert [str(p) for p in PARAMETERIZATIONS] == PUBLISHED
    assert {p.switches for p in PARAMETERIZATIONS} == {
        frozenset(c) for k in range(5) for c in itertools.combinations(SWITCHES, k)
    }


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
def test_rules_of_each(p):
    expected = {"hidden lr": 1.0, "readout lr": 1.0, "hidden std": 1 / 16, "embedding std": 1.0}
    for switch in SWITCHES:
        expected |= EXPECTED[switch](switch in p.switches)
    assert rules(p) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
def test_at_base_width_only_attention_differs(p):
    sp = Parameterization()
    for role, fan_in in (("embedding", 100), ("hidden", 64), ("readout", 64), ("vector", 1)):
        assert p.scales(role, fan_in, 1.0) == sp.scales(role, fan_in, 1.0)
    assert (p.attention_scale(16) == sp.attention_scale(16)) is not p.attn


def test_mup_readout_starts_at_one_over_width():
    p = Parameterization.parse("μP")
    assert p.scales("readout", 256, p.multiplier(256)).init_std == pytest.approx(1 / 256)
    assert p.multiplier(256) == 256 and Parameterization.parse("μP", 32).multiplier(256) == 8


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("sp", "SP"),
        ("SP+Attn+Embd", "SP+Attn+Embd"),
        ("sp+embd+attn", "SP+Attn+Embd"),
        ("sp_attn_embd", "SP+Attn+Embd"),
        ("μP", "μP"),
        ("µP", "μP"),
        ("mup", "μP"),
        ("muP", "μP"),
        ("uP", "μP"),
        ("mup_sp", "μP"),
        ("mup_sp_embd", "μP-Embd"),
        ("mup-last", "μP-Last"),
        ("μP-Last", "μP-Last"),
        ("sp_lr", "μP-Last"),
        ("SP+Embd+Attn+LN", "μP-Last"),
        ("sp+last+ln+attn+embd", "μP"),
        ("mup-last-ln", "SP+Attn+Embd"),
        (" SP + LN ", "SP+LN"),
    ],
)
def test_spellings(spelling, name):
    assert str(Parameterization.parse(spelling)) == name


@pytest.mark.parametrize("p", PARAMETERIZATIONS, ids=str)
def test_every_name_parses_to_itself(p):
    assert Parameterization.parse(str(p)) == p
    assert Parameterization.parse(str(p).lower().replace("+", "_"), base_width=32).switches == p.switches


@pytest.mark.parametrize(
    "wrong", ["spp", "sp+emb", "mup+embd", "", "sp+embd+embd", "embd", "mup-embed", "upside"]
)
def test_a_wrong_name_gets_the_list(wrong):
    with pytest.raises(ConfigError) as error:
        Parameterization.parse(wrong)
    assert all(name in str(error.value) for name in PUBLISHED)


def test_the_table_of_the_sixteen_shows_each_rule():
    table = sixteen_table()
    assert list(table.index) == list(map(str, PARAMETERIZATIONS))
    scaled = (table == "η·m").sum(axis=1)
    assert scaled["SP"] == 0 and scaled["SP+Embd"] == 1 and scaled["μP"] == 2
    assert "1/d_head" in table["attention logits"]["SP+Attn"]
    has_switch = table["readout std"].str.contains("1/√m", regex=False)
    assert has_switch["SP+Last"] and not has_switch["μP-Last"]


def test_unknown_role_is_refused():
    with pytest.raises(ConfigError, match="readuot"):
        Parameterization().scales("readuot", 1, 1.0)


def test_attention_scale_is_a_square_apart():
    for d in (8, 32, 128):
        assert math.isclose(
            Parameterization(attn=True).attention_scale(d), Parameterization().attention_scale(d) ** 2
        )
