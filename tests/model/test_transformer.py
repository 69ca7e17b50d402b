"""The Transformer: causality, options, sizes."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer, attend, flops_per_token, parameter_count

SMALL = ModelConfig(width=16, depth=2, d_head=8, vocab_size=11, context=6)
OPTIONS = [
    {},
    {"norm": "rmsnorm"},
    {"norm_gain": "none"},
    {"norm_gain": "scalar", "norm": "rmsnorm"},
    {"bias": True},
    {"bias": True, "norm_gain": "none"},
    {"positions": "rotary"},
    {"activation": "swiglu"},
    {"activation": "relu2"},
    {"tie_readout": True},
    {"kv_heads": 1},
    {"embedding_norm": True},
    {"qk_norm": True, "positions": "rotary"},
    {"activation": "relu", "mlp_ratio": 1.5},
    {"readout_bias": True},
    {"mixer": "gla"},
    {"mixer": "gla", "kv_heads": 1, "positions": "rotary", "bias": True},
]


def model_of(options, seed=0):
    model = Transformer(dataclasses.replace(SMALL, **options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.5, generator=generator)
    return model


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_causality_by_gradients(options):
    """The logits at t depend on the embeddings at every s ≤ t and on none after."""
    model = model_of(options)
    ids_1xT = torch.arange(6)[None]
    embedded = []
    model.token_embedding.register_forward_hook(lambda m, i, out: embedded.append(out) or out.retain_grad())
    for t in range(6):
        embedded.clear()
        model.zero_grad()
        model(ids_1xT)[0, t].square().sum().backward()
        reach_T = embedded[0].grad[0].abs().sum(-1) > 0
        assert reach_T.tolist() == [s <= t for s in range(6)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_parameter_learns(options):
    model = model_of(options)
    model(torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(1))).logsumexp(
        -1
    ).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert parameter_count(model.config) == sum(p.numel() for p in model.parameters())


def test_attention_equals_torch():
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.full((6, 6), float("-inf")).triu(1)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    torch.testing.assert_close(attend(q, k, v, mask, 0.3), expected)


def test_rotary_depends_on_distance_alone():
    """Shifting all positions by one leaves attention among the shifted tokens as it was."""
    model = model_of({"positions": "rotary", "context": 8})
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    block = model.blocks[0].attention
    x_BxTxD = model.token_embedding(ids)
    here = block(x_BxTxD)
    angles = block.angles_TxK2
    block.angles_TxK2 = angles[1:]
    torch.testing.assert_close(block(x_BxTxD), here)
    block.angles_TxK2 = angles.flip(0)
    assert not torch.allclose(block(x_BxTxD), here)


def test_grouped_queries_equal_repeated_heads():
    shared, full = model_of({"kv_heads": 1}), model_of({})
    state = shared.state_dict()
    for name in list(state):
        if name.endswith(("key.weight", "value.weight")):
            state[name] = state[name].repeat(2, 1)
    full.load_state_dict(state)
    ids = torch.randint(0, 11, (2, 6), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(full(ids), shared(ids))


def test_tied_readout_is_one_parameter():
    model = model_of({"tie_readout": True})
    assert model.readout.weight is model.token_embedding.weight
    assert "readout.weight" not in dict(model.named_parameters())


def test_readout_multiplier_scales_logits():
    ids = torch.arange(6)[None]
    model = model_of({})
    plain = model(ids)
    model.readout_multiplier = 0.25
    torch.testing.assert_close(model(ids), plain * 0.25)


def test_flops_by_hand():
    c = dataclasses.replace(SMALL, depth=1)
    weights = 12 * 16 * 16 + 16 * 11
    assert flops_per_token(c) == 6 * weights + 6 * 16 * 6


def test_swiglu_costs_what_gelu_costs():
    wide = ModelConfig(width=384, d_head=32)
    ratio = parameter_count(dataclasses.replace(wide, activation="swiglu")) / parameter_count(wide)
    assert ratio == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 20}, "width=24"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"widht": 32}, "width"),
        ({"norm": "x"}, "rmsnorm"),
        ({"d_head": 1, "positions": "rotary"}, "even"),
        ({"depth": 0}, "depth"),
        ({"context": 10**9}, "less than or equal to 16384"),
        ({"width": 64.5}, "64.5"),
        ({"mlp_ratio": 0.01}, "no hidden unit"),
        ({"readout_bias": True, "tie_readout": True}, "tied"),
    ],
)
def test_bad_configs_are_refused(values, words):
    with pytest.raises(ConfigError) as error:
        ModelConfig(**{**{"width": 16, "d_head": 8}, **values})
    assert words in str(error.value)


def test_all_options_together_run():
    for norm, activation, positions in itertools.product(
        ("layernorm", "rmsnorm"), ("gelu", "swiglu", "relu2"), ("learned", "rotary")
    ):
        options = {
            "norm": norm,
            "activation": activation,
            "positions": positions,
            "kv_heads": 1,
            "bias": True,
            "tie_readout": True,
            "embedding_norm": True,
            "qk_norm": True,
            "zero_query_init": True,
        }
        assert model_of(options)(torch.zeros(1, 6, dtype=torch.int64)).isfinite().all()


@pytest.mark.parametrize("options", [{}, {"bias": True, "kv_heads": 1}])
def test_one_matmul_gives_what_three_projections_give(options):
    attention = model_of({"width": 32, **options}).blocks[0].attention
    x_BxTxD = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(3))
    for heads, layer in zip(
        attention.query_key_value(x_BxTxD), (attention.query, attention.key, attention.value), strict=True
    ):
        torch.testing.assert_close(heads.transpose(1, 2).flatten(2), layer(x_BxTxD))
        with pytest.raises(ConfigError, match="hook on the attention"):
            layer.register_forward_pre_hook(lambda *_: None)


def test_hidden_units_of_the_mlp_are_a_multiple_of_the_width():
    for ratio, units in ((None, 64), (5.0, 80), (8 / 3, 43)):
        assert dataclasses.replace(SMALL, mlp_ratio=ratio).mlp_width == units
    assert model_of({"mlp_ratio": 5.0}).blocks[0].mlp.up.weight.shape == (80, 16)


def test_residual_outputs_start_smaller_with_depth_or_do_not():
    outputs = ("attention.out.weight", "mlp.down.weight")
    factors = Transformer(SMALL).init_factors()
    assert len(factors) == 4 and all(name.endswith(outputs) for name in factors)
    assert set(factors.values()) == {0.5}
    assert not Transformer(dataclasses.replace(SMALL, depth_scaled_init=False)).init_factors()


def test_a_bias_on_the_logits_is_added_to_them():
    model, ids = model_of({"readout_bias": True}), torch.arange(6)[None]
    biased = model(ids)
    bias_V = model.readout.bias.detach().clone()
    torch.nn.init.zeros_(model.readout.bias)
    torch.testing.assert_close(biased, model(ids) + bias_V)
    assert not Transformer(model.config).readout.bias.any()


@pytest.mark.parametrize("options", [{}, {"readout_bias": True}], ids=str)
@pytest.mark.parametrize("multiplier", [1.0, 0.25])
def test_with_targets_the_loss_is_that_of_the_logits(multiplier, options):
    model = model_of(options)
    model.readout_multiplier = multiplier
    ids, targets = torch.randint(0, 11, (2, 4, 6), generator=torch.Generator().manual_seed(4))
    expected = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    loss = model(ids, targets)
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_attention_in_bf16_keeps_the_digits_of_large_logits():
    """Logits of about 100 differ by 0.5 where bf16 rounds them: values and gradients as in fp32, to the
    rounding of what went in and came out."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 16, 8, generator=generator).bfloat16() for _ in range(3))
    mask_TxT = torch.full((16, 16), float("-inf")).triu(1)

    def output_and_gradients(dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        y = attend(*leaves, mask_TxT, 16.0)
        return [y, *torch.autograd.grad(y.float().square().sum(), leaves)]

    assert (q.float() * 16.0 @ k.float().mT).abs().quantile(0.9) > 64
    for rounded, exact in zip(*map(output_and_gradients, (torch.bfloat16, torch.float32)), strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()
