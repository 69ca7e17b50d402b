"""Power laws print what they compute; the attention scale."""

import dataclasses

import pytest

import hpt
from hpt.errors import ConfigError
from hpt.parameterization.rules import PowerLaw, Scales


def test_laws_print_what_they_compute():
    assert [
        str(x)
        for x in (
            PowerLaw(),
            PowerLaw(m=1.0),
            PowerLaw(fan_in=-0.5, m=-0.5),
            PowerLaw(fan_in=-0.5, m=0.5),
            PowerLaw(m=-1.0),
        )
    ] == ["1", "m", "1/√fan_in/√m", "√m/√fan_in", "1/m"]
    assert PowerLaw(fan_in=-0.5, fan_out=2.0, m=1.0)(16, 3, 5) == pytest.approx(9 * 5 / 4)


def test_attention_is_one_over_d_and_equal_at_the_base():
    rule = hpt.rule("mup-table3")
    assert rule.attention_scale(32) == 1 / 32
    assert rule.attention_scale(32, 32) == pytest.approx(32**-0.5)
    assert rule.attention_scale(64, 32) == pytest.approx(32**-0.5 / 2)
    literal = rule.with_attention("1/d_head")
    assert literal.attention_scale(32, 32) == 1 / 32 and literal.name == "mup-table3, attention 1/d_head"
    assert hpt.rule("lingle").with_attention("1/√d_head").attention_scale(64, 64) == 1 / 8
    assert hpt.rule("completep").attention_scale(64, 64) == hpt.rule("sp").attention_scale(64) == 1 / 8


def test_an_embedding_rate_of_any_power_of_m():
    rule = hpt.rule("sp+attn+embd").with_power(0.5)
    sp = hpt.rule("sp+attn")
    assert rule.name == "SP+Attn+Embd^0.5" == sp.with_power(0.5).name and rule == sp.with_power(0.5)
    assert rule.scales("embedding", 50, 4.0, 64) == Scales(1.0, 2.0)
    assert rule.scales("fixed", 4, 4.0, 4) == Scales(0.0, 2.0)
    for role in ("hidden", "readout", "vector"):
        assert rule.scales(role, 64, 4.0, 50) == sp.scales(role, 64, 4.0, 50)
    assert hpt.rule("sp").with_power(1.0).scales("embedding", 50, 4.0) == hpt.rule("sp+embd").scales(
        "embedding", 50, 4.0
    )
    assert "η·√m" in str(rule) and "made of SP+Attn" in str(rule)


def test_a_readout_that_starts_from_a_base_width_of_its_own():
    """Lingle's: 1/n at the start, with learning rates that count from another width."""
    rule = hpt.rule("mup", 128).with_last_base(1)
    m = rule.multiplier(512)
    assert rule.scales("readout", 512, m).init_std == pytest.approx(1 / 512)
    assert rule.scales("embedding", 50, m).lr == 4 and rule.name == "μP, Last from 1"
    assert hpt.rule("sp").with_last_base(32).scales("readout", 128, 128.0).init_std == pytest.approx(
        128**-0.5 * (128 / 32) ** -0.5
    )


def test_other_laws_for_a_role():
    law = PowerLaw(fan_in=-1.0, constant=3.0)
    rule = hpt.rule("sp").with_laws("readout", std=law, lr=-0.5)
    assert rule.scales("readout", 16, 4.0)[:2] == pytest.approx((3 / 16, 0.5))
    assert str(law) == "3/fan_in" and rule.name == "SP, readout std 3/fan_in, readout lr 1/√m"
    assert hpt.rule("sp").with_laws("readout", std=law, name="mine").name == "mine"
    with pytest.raises(ConfigError, match="'stdd'"):
        hpt.rule("sp").with_laws("readout", stdd=1.0)
    with pytest.raises(ConfigError, match="readuot"):
        hpt.rule("sp").with_laws("readuot", std=1.0)
    with pytest.raises(ConfigError, match="constant"):
        PowerLaw(constant=0.0)


def test_rules_that_differ_in_words_alone_are_one():
    rule = hpt.rule("hayou-liu")
    assert rule == dataclasses.replace(rule, about="other words", notes=("more",), source="hearsay")
    assert hash(rule) == hash(dataclasses.replace(rule, about="other words"))
    assert rule != dataclasses.replace(rule, base_width=2)
