"""What a model's forward has to do is said, and what is printed works."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.forward import attention_note, embedding_note

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


class SelfAttention(nn.Module):
    """As nanoGPT has it: the size of a head is that of the keys."""

    def __init__(self, n, heads):
        super().__init__()
        self.n_embd, self.n_head = n, heads
        self.c_attn, self.c_proj = nn.Linear(n, 3 * n), nn.Linear(n, n)

    def forward(self, q, k, v):
        weights = q @ k.transpose(-2, -1) * (1.0 / math.sqrt(k.size(-1)))
        return self.c_proj(weights.softmax(-1) @ v)


class Mixer(SelfAttention):
    """Attention by no name, which its code calls."""

    def forward(self, q, k, v):
        return self.c_proj(F.scaled_dot_product_attention(q, k, v))


class ByHand(SelfAttention):
    """Attention by no name, written out."""

    def forward(self, q, k, v):
        weights = (q @ k.transpose(-2, -1)) / self.head_dim**0.5
        return self.c_proj(weights.softmax(-1) @ v)

    @property
    def head_dim(self):
        return self.n_embd // self.n_head


class RightAttention(SelfAttention):
    """Scaled in its code as μP has it; the root there is of the depth, and of no head."""

    def forward(self, q, k, v, depth=2):
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1 / q.size(-1))
        return self.c_proj(mixed) / math.sqrt(2 * depth)


class NeoXAttention(nn.Module):
    """As GPT-NeoX has it: a buffer that logits are divided by."""

    def __init__(self, n, heads):
        super().__init__()
        self.num_attention_heads, self.hidden_size_per_attention_head = heads, n // heads
        self.query_key_value = nn.Linear(n, 3 * n)
        self.register_buffer("norm_factor", torch.tensor((n // heads) ** 0.5))


@pytest.mark.parametrize("kind", [SelfAttention, Mixer, ByHand, NeoXAttention])
def test_a_root_of_the_head_is_found_however_it_is_written(kind):
    """Silent where the rule has the same: under SP, and at equal heads under Table 3."""
    model, base = (nn.Sequential(kind(n, n // 16)) for n in (64, 32))
    assert "by 0.0625; '0' (head size 16) uses 0.25" in attention_note(hpt.rule("mup"), model, base)
    assert attention_note(hpt.rule("sp+embd"), model, base) == ""
    assert attention_note(hpt.rule("mup-table3"), model, base) == ""
    grown = nn.Sequential(kind(64, 2))
    assert f"by {16**0.5 / 32:.6g}; '0'" in attention_note(hpt.rule("mup-table3"), grown, base)


def test_a_scale_that_code_hands_on_is_said_to_be_unknown():
    model = nn.Sequential(RightAttention(64, 4))
    assert "is unknown" in attention_note(hpt.rule("mup"), model, None)
    assert attention_note(hpt.rule("sp"), model, None) == ""


class Lookup(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n, self.words, self.body = n, nn.Embedding(20, n), nn.Linear(n, n)

    def forward(self, ids):
        return self.body(self.words(ids)) / math.sqrt(self.n)


class OneLine(Lookup):
    def forward(self, ids):
        return self.body(self.words(ids) * math.sqrt(self.n))


class TwoLines(Lookup):
    def forward(self, ids):
        x = self.words(ids)
        x = x * self.n**0.5
        return self.body(x)


class Said(Lookup):
    def __init__(self, n):
        super().__init__(n)
        self.embed_scale = n**0.5


@pytest.mark.parametrize("kind", [OneLine, TwoLines, Said])
def test_an_embedding_that_is_multiplied_gets_a_note(kind):
    assert "words: the model multiplies what it gives by" in embedding_note(kind(64))
    assert embedding_note(Lookup(64)) == ""


class Universal(nn.Module):
    """One block at three places."""

    def __init__(self, n):
        super().__init__()
        self.words, block = nn.Embedding(20, n), nn.ModuleDict({"map": nn.Linear(n, n, bias=False)})
        self.layers, self.out = nn.ModuleList([block] * 3), nn.Linear(n, 20, bias=False)

    def forward(self, ids, scale=lambda layer: 1.0):
        x = self.words(ids) * scale("words")
        for layer in self.layers:
            x = torch.tanh(layer["map"](x) * scale("layers.0.map"))
        return self.out(x) * scale("out")


def test_a_shared_block_is_absorbed_as_any_matrix_is():
    """u-μP with its multipliers in the forward, and absorbed: the same losses, step by step."""
    ids = torch.arange(12).reshape(2, 6)
    options = {"base_model": Universal(16), "eps": 1e-30}
    losses = {}
    for forward in ("absorb", "in_model"):
        model = Universal(32)
        asked = {"base_model": options["base_model"], "forward": forward}
        hpt.init_weights(model, "u-mup", generator=torch.Generator().manual_seed(0), **asked)
        described = hpt.describe(model, "u-mup", lr=0.1, **asked).frame.set_index("name")["multiplier"]
        groups = hpt.param_groups(model, "u-mup", lr=0.1, forward=forward, **options)
        optimizer = torch.optim.AdamW(groups)
        losses[forward] = []
        for _ in range(3):
            logits = model(ids, lambda layer, scales=described: scales[f"{layer}.weight"])
            loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[forward].append(loss.item())
    assert losses["absorb"] == pytest.approx(losses["in_model"], rel=1e-4)


def test_albert_shares_its_block():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 30, "num_attention_heads": 4, "num_hidden_layers": 3}

    def make(n):
        config = transformers.AlbertConfig(
            hidden_size=n, intermediate_size=2 * n, embedding_size=n // 2, **sizes
        )
        with torch.device("meta"):
            return transformers.AlbertModel(config)

    for how in ({"base_model": make(32)}, {"base_width": 32}):
        described = hpt.describe(make(64), "mup-table8", lr=0.1, forward="absorb", **how)
        assert (described.frame["multiplier"] == 1).all() and not described.frame["tied_to"].any()
