"""A decoder-only, pre-norm Transformer, plain to read, with the options of both studies.

Shapes: B sequences of a batch, T tokens of context, D width, H query heads, G heads of keys and of
values, K head size, V vocabulary, E all outputs of the three projections, N tokens of a batch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hpt.config import config
from hpt.errors import ConfigError
from hpt.model.linear_attention import gated_linear_attention
from hpt.model.loss import readout_loss


@config
class ModelConfig:
    """Architecture of one Transformer.

    Attributes
    ----------
    width: residual width D; a multiple of ``d_head``.
    depth: number of blocks.
    d_head: size K of one attention head.
    vocab_size: number of token ids V.
    context: longest sequence T, in tokens; the mask of attention has T² numbers.
    kv_heads: heads G of keys and values; None is one for each query head, 1 is multi-query
        attention.
    norm: LayerNorm, or RMSNorm (Lingle 2024).
    norm_gain: trainable gain per channel ("vector"), one per norm ("scalar"), or none (Lingle's
        base).
    positions: learned embeddings, or rotary.
    mixer: what mixes tokens: softmax "attention", or gated linear attention, "gla"
        (:mod:`hpt.model.linear_attention`).
    activation: of the MLP; "swiglu" has 8/3·D hidden units in place of 4·D, so that sizes agree.
    mlp_ratio: hidden units of the MLP over D, where not as said; their number is rounded.
    bias: biases in every projection (and in LayerNorm).
    readout_bias: a bias on the logits.
    depth_scaled_init: layers that add to the residual stream start with 1/√(2·depth) of their std
        (GPT-2); Lingle's do not.
    tie_readout: the readout uses the token embedding's matrix.
    zero_query_init: queries start at zero (Yang et al. 2022, appendix D).
    embedding_norm: a norm after the embeddings.
    qk_norm: RMSNorm without gain on queries and keys.
    """

    width: int = Field(64, ge=1, le=2**20)
    depth: int = Field(3, ge=1, le=10_000)
    d_head: int = Field(32, ge=1, le=2**20)
    vocab_size: int = Field(1024, ge=2, le=2**31 - 1)
    context: int = Field(128, ge=2, le=2**14)
    kv_heads: PositiveInt | None = None
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_gain: Literal["vector", "scalar", "none"] = "vector"
    positions: Literal["learned", "rotary"] = "learned"
    mixer: Literal["attention", "gla"] = "attention"
    activation: Literal["gelu", "swiglu", "relu2", "relu"] = "gelu"
    mlp_ratio: float | None = Field(None, gt=0, le=2**10)
    bias: bool = False
    readout_bias: bool = False
    depth_scaled_init: bool = True
    tie_readout: bool = False
    zero_query_init: bool = False
    embedding_norm: bool = False
    qk_norm: bool = False

    @model_validator(mode="after")
    def _heads_fit(self):
        if self.width % self.d_head:
            fitting = math.ceil(self.width / self.d_head) * self.d_head
            raise ValueError(
                f"width {self.width} is no multiple of d_head {self.d_head}: choose width={fitting}"
            )
        if self.heads % self.key_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} kv_heads evenly")
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(f"rotary positions need an even d_head, given {self.d_head}")
        if self.mlp_width < 1:
            raise ValueError(f"mlp_ratio {self.mlp_ratio} leaves no hidden unit at width {self.width}")
        if self.readout_bias and self.tie_readout:
            raise ValueError("a tied readout has no bias of its own: give readout_bias or tie_readout")
        return self

    @property
    def heads(self) -> int:
        """Query heads H."""
        return self.width // self.d_head

    @property
    def key_heads(self) -> int:
        """Heads G of keys and of values."""
        return self.kv_heads or self.heads

    @property
    def mlp_width(self) -> int:
        """Hidden units of the MLP."""
        if self.mlp_ratio is not None:
            return round(self.mlp_ratio * self.width)
        return 8 * self.width // 3 if self.activation == "swiglu" else 4 * self.width


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last axis of x_BxTxD."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.kind = c.norm
        self.shape = (c.width,)
        gain_shape = {"vector": self.shape, "scalar": (1,), "none": None}[c.norm_gain]
        self.gain = nn.Parameter(torch.ones(gain_shape)) if gain_shape else None
        has_bias = c.bias and c.norm == "layernorm"
        self.bias = nn.Parameter(torch.zeros(self.shape)) if has_bias else None

    def forward(self, x_BxTxD):
        if self.gain is not None and self.gain.shape == self.shape:
            return self.normalize(x_BxTxD, self.gain, self.bias)
        y_BxTxD = self.normalize(x_BxTxD)
        if self.gain is not None:
            y_BxTxD = y_BxTxD * self.gain
        return y_BxTxD if self.bias is None else y_BxTxD + self.bias

    def normalize(self, x_BxTxD, gain_D=None, bias_D=None):
        """Torch's own, which multiplies by a gain per channel and adds a bias as it goes."""
        if self.kind == "layernorm":
            return F.layer_norm(x_BxTxD, self.shape, gain_D, bias_D)
        return F.rms_norm(x_BxTxD, self.shape, gain_D)


def linear(x, weight, bias):
    """x Wᵀ + b in the dtype of ``x``; weights stay in fp32."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class Linear(nn.Linear):
    """A linear layer that multiplies in its input's dtype."""

    def forward(self, x):
        return linear(x, self.weight, self.bias)


class Projection(Linear):
    """A matrix that attention multiplies by together with its others: it holds weights and is not
    called, so that a multiplier hooked onto it would be lost."""

    def register_forward_pre_hook(self, *_, **__):
        raise ConfigError(
            "a hook of queries, keys or values would never run.",
            "attention multiplies by all three at once",
            'forward="absorb" for a multiplier; or a hook on the attention',
        )


def rotate(x_BxHxTxK, angles_TxK2):
    """Rotary positions: the pair (i, i + K/2) turns by the angle t·10000^(−2i/K) (Su et al. 2021,
    eq. 34)."""
    a, b = x_BxHxTxK.float().chunk(2, dim=-1)
    cos = angles_TxK2.cos()
    sin = angles_TxK2.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x_BxHxTxK.dtype)


class Attention(nn.Module):
    """Causal attention, or the gated linear one; the logits q·k are multiplied by ``scale``."""

    def __init__(self, c: ModelConfig, scale: float):
        super().__init__()
        self.c = c
        self.scale = scale
        shared_width = c.key_heads * c.d_head
        self.query = Projection(c.width, c.width, c.bias)
        self.key = Projection(c.width, shared_width, c.bias)
        self.value = Projection(c.width, shared_width, c.bias)
        self.out = Linear(c.width, c.width, c.bias)
        self.gate = Linear(c.width, c.heads, c.bias) if c.mixer == "gla" else None
        if c.positions == "rotary":
            even_K2 = torch.arange(0, c.d_head, 2, device="cpu")
            frequency_K2 = 10000.0 ** (-even_K2 / c.d_head)
            position_T = torch.arange(c.context, device="cpu")
            self.constant("angles_TxK2", position_T[:, None] * frequency_K2)
        infinite_TxT = torch.full((c.context, c.context), float("-inf"), device="cpu")
        self.constant("mask_TxT", infinite_TxT.triu(1))

    def constant(self, name, value):
        """Keep a tensor that was computed on the CPU: to compute one on the meta device imports
        torch's compiler, which takes a second."""
        self.register_buffer(name, value.to(torch.get_default_device()), persistent=False)

    def query_key_value(self, x_BxTxD):
        """Queries BxHxTxK, keys and values BxGxTxK, by one matmul: three small ones take nearly
        thrice as long."""
        layers = (self.query, self.key, self.value)
        weight_ExD = torch.cat([layer.weight for layer in layers])
        bias_E = torch.cat([layer.bias for layer in layers]) if self.c.bias else None
        y_BxTxE = linear(x_BxTxD, weight_ExD, bias_E)
        y_BxHGGxTxK = y_BxTxE.unflatten(-1, (-1, self.c.d_head)).transpose(1, 2)
        return y_BxHGGxTxK.split([self.c.heads, self.c.key_heads, self.c.key_heads], dim=1)

    def forward(self, x_BxTxD):
        T = x_BxTxD.shape[1]
        q, k, v = self.query_key_value(x_BxTxD)
        if self.c.qk_norm:
            q = F.rms_norm(q, (self.c.d_head,))
            k = F.rms_norm(k, (self.c.d_head,))
        if self.c.positions == "rotary":
            q = rotate(q, self.angles_TxK2[:T])
            k = rotate(k, self.angles_TxK2[:T])
        if self.c.key_heads != self.c.heads:
            shared_by = self.c.heads // self.c.key_heads
            k, v = (x.repeat_interleave(shared_by, dim=1) for x in (k, v))
        mask_TxT = self.mask_TxT[:T, :T]
        if self.gate is None:
            y_BxHxTxK = attend(q, k, v, mask_TxT, self.scale)
        else:
            gate_BxHxT = self.gate(x_BxTxD).mT
            y_BxHxTxK = gated_linear_attention(q, k, v, gate_BxHxT, mask_TxT, self.scale)
        return self.out(y_BxHxTxK.transpose(1, 2).flatten(2))


#: Sizes of a head that flash attention takes, and those where cuDNN's takes 0.75 of its time on an H200. It
#: is made for each shape, which small models do not repay.
FLASH_HEADS = range(8, 257, 8)
CUDNN_HEADS = range(64, 129, 8)


def attend(q, k, v, mask_TxT, scale):
    """softmax(scale·q kᵀ + mask) v, for q, k, v of shape BxHxTxK; the logits q kᵀ and their softmax in
    fp32.

    In bf16, logits of 100 are 0.5 apart, and runs at the right wall of a basin, whose logits grow,
    end more than a nat above what they reach in fp32. The products take 7 to 15 % of a step on a CPU.

    The fused kernels are for CUDA, where they take a stack of models as one of a larger batch; on a CPU
    their backward would take most of a bf16 step. Each is called by its name: where
    ``F.scaled_dot_product_attention`` chooses, it has kept what the backward needs only where it sees that
    there will be one, and vmap hides it.
    """
    q = q * scale
    if q.device.type == "cuda" and q.dtype == torch.bfloat16 and q.shape[-1] in FLASH_HEADS:
        if q.shape[-1] in CUDNN_HEADS and hopper():
            cudnn = torch.ops.aten._scaled_dot_product_cudnn_attention
            return cudnn(q, k, v, None, compute_log_sumexp=True, is_causal=True, scale=1.0)[0]
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, is_causal=True, scale=1.0)[0]
    logits_BxHxTxT = q.float() @ k.float().mT
    logits_BxHxTxT += mask_TxT
    return logits_BxHxTxT.softmax(-1).to(v.dtype) @ v


@functools.cache
def hopper() -> bool:
    """Whether the GPU is of that generation, the only one on which the two were timed."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


class MLP(nn.Module):
    """Two layers with GELU, ReLU or squared ReLU between them, or SwiGLU with its gate."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.activation = c.activation
        self.up = Linear(c.width, c.mlp_width, c.bias)
        if c.activation == "swiglu":
            self.gate = Linear(c.width, c.mlp_width, c.bias)
        self.down = Linear(c.mlp_width, c.width, c.bias)

    def forward(self, x_BxTxD):
        h = self.up(x_BxTxD)
        if self.activation == "swiglu":
            h = F.silu(self.gate(x_BxTxD)) * h
        elif self.activation == "relu2":
            h = F.relu(h).square()
        elif self.activation == "relu":
            h = F.relu(h)
        else:
            h = F.gelu(h)
        return self.down(h)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); x and the norms in fp32, the branches in
    ``dtype``."""

    def __init__(self, c: ModelConfig, attention_scale: float):
        super().__init__()
        self.norm_attention = Norm(c)
        self.attention = Attention(c, attention_scale)
        self.norm_mlp = Norm(c)
        self.mlp = MLP(c)

    def forward(self, x_BxTxD, dtype):
        x = x_BxTxD + self.attention(self.norm_attention(x_BxTxD).to(dtype))
        return x + self.mlp(self.norm_mlp(x).to(dtype))


def embedding(count, width):
    """As ``nn.Embedding(count, width)``, which on the meta device imports torch's compiler to draw
    nothing."""
    weight = torch.empty(count, width)
    if not weight.is_meta:
        weight.normal_()
    return nn.Embedding.from_pretrained(weight, freeze=False)


class Transformer(nn.Module):
    """Token ids_BxT → logits_BxTxV, or the mean loss where targets are given.

    Parameters
    ----------
    c: the architecture.
    attention_scale: factor on attention logits; 1/√d_head when None (the parameterization chooses
        it).
    readout_multiplier: factor on the logits; a tied readout needs it, since its matrix starts at
        std 1.
    """

    def __init__(self, c: ModelConfig, attention_scale: float | None = None, readout_multiplier: float = 1.0):
        super().__init__()
        self.config = c
        self.readout_multiplier = readout_multiplier
        self.token_embedding = embedding(c.vocab_size, c.width)
        learned = c.positions == "learned"
        self.position_embedding = embedding(c.context, c.width) if learned else None
        self.norm_embedding = Norm(c) if c.embedding_norm else None
        scale = c.d_head**-0.5 if attention_scale is None else attention_scale
        self.blocks = nn.ModuleList(Block(c, scale) for _ in range(c.depth))
        self.norm_final = Norm(c)
        self.readout = Linear(c.width, c.vocab_size, c.readout_bias)
        if c.tie_readout:
            self.readout.weight = self.token_embedding.weight
        for name, parameter in self.named_parameters():
            # Torch draws biases from its global generator.
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, ids_BxT: Tensor, targets_BxT: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Logits of shape BxTxV; with targets their mean cross-entropy in nats a token, as
        :func:`~hpt.model.loss.readout_loss` takes it for training. Matmuls run in
        ``dtype``."""
        x_BxTxD = self.token_embedding(ids_BxT)
        if self.position_embedding is not None:
            x_BxTxD = x_BxTxD + self.position_embedding.weight[: ids_BxT.shape[1]]
        if self.norm_embedding is not None:
            x_BxTxD = self.norm_embedding(x_BxTxD)
        for block in self.blocks:
            x_BxTxD = block(x_BxTxD, dtype)
        x_BxTxD = self.norm_final(x_BxTxD).to(dtype)
        if targets_BxT is not None:
            x_NxD = x_BxTxD.flatten(0, 1)
            weight_VxD = self.readout.weight
            if self.readout.bias is not None:
                # A bias is the weight of an input that is always 1.
                x_NxD = F.pad(x_NxD, (0, 1), value=1.0)
                weight_VxD = torch.cat([weight_VxD, self.readout.bias[:, None]], dim=1)
            return readout_loss(x_NxD, weight_VxD, targets_BxT.flatten(), self.readout_multiplier)
        return self.readout(x_BxTxD) * self.readout_multiplier

    def init_factors(self) -> dict[str, float]:
        """Factors on the initial std beyond a parameterization's: residual branches 1/√(2·depth) where
        ``depth_scaled_init``, zero queries."""
        factors = {}
        for name, _ in self.named_parameters():
            output = is_residual_output(name) and name.endswith("weight")
            if output and self.config.depth_scaled_init:
                factors[name] = (2 * self.config.depth) ** -0.5
            elif name.endswith("query.weight") and self.config.zero_query_init:
                factors[name] = 0.0
        return factors


def is_residual_output(name: str) -> bool:
    """Whether a parameter of that name is of a layer that adds to the residual stream."""
    return name.rpartition(".")[0].endswith(("attention.out", "mlp.down"))


@functools.cache
def wider_copy(c: ModelConfig) -> Transformer:
    """The same architecture with twice the heads, shapes only: to read roles from, not to be
    changed."""
    twice = dataclasses.replace(c, width=2 * c.width, kv_heads=c.kv_heads and 2 * c.kv_heads)
    return shapes_of(twice)


@functools.cache
def parameter_count(c: ModelConfig) -> int:
    """Number of trainable parameters, embeddings included; costs no memory."""
    return sum(p.numel() for p in shapes_of(c).parameters())


@functools.cache
def flops_per_token(c: ModelConfig) -> float:
    """FLOPs of a training step per token: 6 per weight of a matmul, 12·depth·width·context/2 for
    attention."""
    modules = shapes_of(c).modules()
    matmul_weights = sum(m.weight.numel() for m in modules if isinstance(m, nn.Linear))
    return 6.0 * matmul_weights + 6.0 * c.depth * c.width * c.context


def shapes_of(c: ModelConfig) -> Transformer:
    """The model without numbers."""
    with torch.device("meta"):
        return Transformer(c)
