"""What a model's forward has to do is said, and what is printed works."""

import pytest
import torch

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.forward import attention_note

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


def test_the_attention_of_others_is_known_or_said_to_be_unknown():
    transformers = pytest.importorskip("transformers")
    sizes = {"num_layers": 1, "d_ff": 64, "vocab_size": 30}
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=32, d_kv=8, num_heads=4, **sizes)
    )
    assert attention_note(hpt.rule("sp+embd"), model, None) == ""
    note = attention_note(hpt.rule("mup"), model, None)
    assert "0.125" in note and "uses 1." in note
    exec("\n".join(line[4:] for line in note.split("try:\n")[1].splitlines()), {"model": model})
    assert attention_note(hpt.rule("mup"), model, None) == ""

    class OddAttention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Linear(8, 8)

    assert "is unknown" in attention_note(hpt.rule("mup"), torch.nn.Sequential(OddAttention()), None)
