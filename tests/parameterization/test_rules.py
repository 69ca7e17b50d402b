"""Power laws print what they compute; the attention scale."""

import pytest

import hpt
from hpt.parameterization.rules import PowerLaw


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
    assert hpt.rule("completep").attention_scale(64, 64) == hpt.rule("sp").attention_scale(64) == 1 / 8
