"""CompleteP's depth part, against its table."""

import pytest
from torch import nn

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.groups import assign

MODEL = Transformer(ModelConfig(width=16, depth=6, d_head=8, vocab_size=32, context=16))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_blocks_scale_with_depth_and_the_rest_does_not(alpha):
    """Dey et al. 2025, Table 1: branches L^−α, rates of blocks L^(α−1), their ε L^−α; L = 6/2."""
    rule = hpt.rule("completep", 8)
    flat = assign(MODEL, rule, forward="in_model")
    deep = assign(MODEL, rule.with_depth(2, alpha), forward="in_model")
    for name, (_, _, scales) in deep.items():
        inside, output = "blocks." in name, name.endswith(("attention.out.weight", "mlp.down.weight"))
        before = flat[name].scales
        assert scales.init_std == before.init_std and scales.decay == before.decay
        assert scales.lr / before.lr == pytest.approx(3 ** (alpha - 1) if inside else 1)
        assert scales.eps / before.eps == pytest.approx(3**-alpha if inside else 1)
        assert scales.multiplier / before.multiplier == pytest.approx(3**-alpha if output else 1)


def test_a_rule_prints_its_depth_part():
    assert "L^(0.5 − 1)" in str(hpt.rule("sp").with_depth(2, 0.5))
    deep = str(hpt.rule("completep").with_depth(2))
    assert "depth over 2" in deep and "left out" not in deep
    assert "L:" not in str(hpt.rule("completep")) and "left out" in str(hpt.rule("completep"))


def test_at_the_base_depth_nothing_changes():
    rule = hpt.rule("completep", 8)
    assert assign(MODEL, rule.with_depth(6), forward="absorb") == assign(MODEL, rule, forward="absorb")


def test_a_model_of_unknown_depth_is_refused():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8))
    base = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    rule = hpt.rule("sp").with_depth(2)
    with pytest.raises(ConfigError, match="does not tell"):
        hpt.param_groups(model, rule, lr=0.1, base_model=base)
