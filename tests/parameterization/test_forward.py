"""What a model's forward has to do is said, and what is printed works."""

import pytest
import torch

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer

CONFIG = ModelConfig(width=32, depth=2, d_head=8, vocab_size=20, context=8)


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
