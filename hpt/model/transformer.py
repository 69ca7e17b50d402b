"""A decoder-only, pre-norm Transformer, plain to read, with the options of both studies.

Shapes: B batch, T context, D width, H query heads, G key and value heads, K head size, V
    vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from hpt.config import config
from hpt.model.readout_loss import readout_loss


@config
class ModelConfig:
    """Architecture of one Transformer.

    Attributes
    ----------
    width: residual width D; a multiple of ``d_head``.
    depth: number of blocks.
    d_head: size K of one attention head.
    vocab_size: number of token ids V.
    context: longest sequence T, in tokens.
    kv_heads: heads G of keys and values; None is one for each query head, 1 is multi-query
        attention.
    norm: LayerNorm, or RMSNorm (Lingle 2024).
    norm_gain: trainable gain per channel ("vector"), one per norm ("scalar"), or none (Lingle's
        base).
    positions: learned embeddings, or rotary.
    activation: of the MLP; "swiglu" has 8/3·D hidden units in place of 4·D, so that sizes agree.
    bias: biases in every projection (and in LayerNorm).
    tie_readout: the readout uses the token embedding's matrix.
    zero_query_init: queries start at zero (Yang et al. 2022, appendix D).
    embedding_norm: a norm after the embeddings.
    qk_norm: RMSNorm without gain on queries and keys.
    """

    width: int = Field(64, ge=1)
    depth: int = Field(3, ge=1)
    d_head: int = Field(32, ge=1)
    vocab_size: int = Field(1024, ge=2)
    context: int = Field(128, ge=2)
    kv_heads: int | None = Field(None, ge=1)
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_gain: Literal["vector", "scalar", "none"] = "vector"
    positions: Literal["learned", "rotary"] = "learned"
    activation: Literal["gelu", "swiglu", "relu2"] = "gelu"
    bias: bool = False
    tie_readout: bool = False
    zero_query_init: bool = False
    embedding_norm: bool = False
    qk_norm: bool = False

    @model_validator(mode="after")
    def _heads_fit(self):
        if self.width % self.d_head:
            raise ValueError(
                f"width {self.width} is not a multiple of d_head {self.d_head}; "
                f"choose width={-(-self.width // self.d_head) * self.d_head} or a smaller d_head"
            )
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} query heads cannot share {self.kv_heads} kv_heads evenly"
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(f"rotary positions need an even d_head, given {self.d_head}")
        return self

    @property
    def heads(self) -> int:
        return self.width // self.d_head

    @property
    def mlp_width(self) -> int:
        return 8 * self.width // 3 if self.activation == "swiglu" else 4 * self.width


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last axis of x_BxTxD."""

    def __init__(self, c: ModelConfig, size: int):
        super().__init__()
        self.kind, self.size = c.norm, size
        gain_shape = {"vector": (size,), "scalar": (1,), "none": None}[c.norm_gain]
        self.gain = nn.Parameter(torch.ones(gain_shape)) if gain_shape else None
        self.bias = nn.Parameter(torch.zeros(size)) if c.bias and c.norm == "layernorm" else None

    def forward(self, x: Tensor) -> Tensor:
        fused_gain = self.gain if self.gain is not None and self.gain.numel() == self.size else None
        if self.kind == "layernorm":
            y = F.layer_norm(
                x, (self.size,), fused_gain, self.bias if fused_gain is not None else None
            )
        else:
            y = F.rms_norm(x, (self.size,), fused_gain)
        if fused_gain is None:
            y = y if self.gain is None else y * self.gain
            y = y if self.bias is None else y + self.bias
        return y


class Linear(nn.Linear):
    """A linear layer that multiplies in its input's dtype; its own weights stay in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(
            x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        )


def rotate(x_BxHxTxK: Tensor, angles_TxK2: Tensor) -> Tensor:
    """Rotary positions: pair (i, i + K/2) turns by angle t·10000^(−2i/K) (Su et al. 2021, eq.
    34)."""
    a, b = x_BxHxTxK.float().chunk(2, dim=-1)
    cos, sin = angles_TxK2.cos(), angles_TxK2.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x_BxHxTxK.dtype)


def on_default_device(constant: Tensor) -> Tensor:
    """A constant that was computed on the CPU: computing on the meta device imports torch's
    compiler, 1 s."""
    return constant.to(torch.get_default_device())


class Attention(nn.Module):
    """Causal attention; the logits q·k are multiplied by ``scale``."""

    def __init__(self, c: ModelConfig, scale: float):
        super().__init__()
        self.c, self.scale = c, scale
        G = c.kv_heads or c.heads
        self.query = Linear(c.width, c.width, bias=c.bias)
        self.key = Linear(c.width, G * c.d_head, bias=c.bias)
        self.value = Linear(c.width, G * c.d_head, bias=c.bias)
        self.out = Linear(c.width, c.width, bias=c.bias)
        if c.positions == "rotary":
            frequency_K2 = 10000.0 ** (-torch.arange(0, c.d_head, 2, device="cpu") / c.d_head)
            angles_TxK2 = torch.arange(c.context, device="cpu")[:, None] * frequency_K2
            self.register_buffer("angles_TxK2", on_default_device(angles_TxK2), persistent=False)
        mask_TxT = torch.full((c.context, c.context), float("-inf"), device="cpu").triu(1)
        self.register_buffer("mask_TxT", on_default_device(mask_TxT), persistent=False)

    def query_key_value(self, x_BxTxD: Tensor) -> tuple[Tensor, ...]:
        """Queries BxHxTxK, keys and values BxGxTxK, by one matmul: three small ones take nearly
        thrice as long."""
        B, T, _ = x_BxTxD.shape
        layers = self.query, self.key, self.value
        if any(
            layer._forward_hooks or layer._forward_pre_hooks for layer in layers
        ):  # somebody watches the layers
            heads_BxTxExK = torch.cat([layer(x_BxTxD) for layer in layers], -1).view(
                B, T, -1, self.c.d_head
            )
        else:
            weight_ExD = torch.cat([layer.weight for layer in layers]).to(x_BxTxD.dtype)
            bias_E = (
                torch.cat([layer.bias for layer in layers]).to(x_BxTxD.dtype)
                if self.c.bias
                else None
            )
            heads_BxTxExK = F.linear(x_BxTxD, weight_ExD, bias_E).view(B, T, -1, self.c.d_head)
        G = self.c.kv_heads or self.c.heads
        return heads_BxTxExK.transpose(1, 2).split([self.c.heads, G, G], dim=1)

    def forward(self, x_BxTxD: Tensor) -> Tensor:
        B, T, D = x_BxTxD.shape
        q, k, v = self.query_key_value(x_BxTxD)
        if self.c.qk_norm:
            q, k = F.rms_norm(q, (self.c.d_head,)), F.rms_norm(k, (self.c.d_head,))
        if self.c.positions == "rotary":
            q, k = rotate(q, self.angles_TxK2[:T]), rotate(k, self.angles_TxK2[:T])
        if k.shape[1] != q.shape[1]:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        y_BxHxTxK = attend(q, k, v, self.mask_TxT[:T, :T], self.scale)
        return self.out(y_BxHxTxK.transpose(1, 2).reshape(B, T, D))


def attend(q: Tensor, k: Tensor, v: Tensor, mask_TxT: Tensor, scale: float) -> Tensor:
    """softmax(scale·q kᵀ + mask) v, for q, k, v of shape BxHxTxK.

    Written out on the CPU, where the backward of the fused kernel takes most of a bf16 step.
    """
    if q.device.type == "cpu":
        logits_BxHxTxT = (q * scale) @ k.transpose(-1, -2)
        logits_BxHxTxT += mask_TxT.to(q.dtype)
        return logits_BxHxTxT.softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


class MLP(nn.Module):
    """Two layers with GELU or squared ReLU, or SwiGLU with its gate."""

    def __init__(self, c: ModelConfig):
        super().__init__()
        self.activation, self.gelu = c.activation, F.gelu  # a compiled step has a faster one
        self.up = Linear(c.width, c.mlp_width, bias=c.bias)
        self.gate = Linear(c.width, c.mlp_width, bias=c.bias) if c.activation == "swiglu" else None
        self.down = Linear(c.mlp_width, c.width, bias=c.bias)

    def forward(self, x_BxTxD: Tensor) -> Tensor:
        h = self.up(x_BxTxD)
        if self.activation == "swiglu":
            h = F.silu(self.gate(x_BxTxD)) * h
        elif self.activation == "relu2":
            h = F.relu(h).square()
        else:
            h = self.gelu(h)
        return self.down(h)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); x and the norms in fp32, the branches in
    ``dtype``."""

    def __init__(self, c: ModelConfig, attention_scale: float):
        super().__init__()
        self.norm_attention, self.attention = Norm(c, c.width), Attention(c, attention_scale)
        self.norm_mlp, self.mlp = Norm(c, c.width), MLP(c)

    def forward(self, x_BxTxD: Tensor, dtype: torch.dtype) -> Tensor:
        x = x_BxTxD + self.attention(self.norm_attention(x_BxTxD).to(dtype))
        return x + self.mlp(self.norm_mlp(x).to(dtype))


def embedding(count: int, width: int) -> nn.Embedding:
    """As ``nn.Embedding(count, width)``, which on the meta device imports torch's compiler to draw
    nothing."""
    weight = torch.empty(count, width)
    return nn.Embedding.from_pretrained(
        weight if weight.is_meta else weight.normal_(), freeze=False
    )


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

    def __init__(
        self, c: ModelConfig, attention_scale: float | None = None, readout_multiplier: float = 1.0
    ):
        super().__init__()
        self.config, self.readout_multiplier = c, readout_multiplier
        self.token_embedding = embedding(c.vocab_size, c.width)
        self.position_embedding = (
            embedding(c.context, c.width) if c.positions == "learned" else None
        )
        self.norm_embedding = Norm(c, c.width) if c.embedding_norm else None
        scale = c.d_head**-0.5 if attention_scale is None else attention_scale
        self.blocks = nn.ModuleList(Block(c, scale) for _ in range(c.depth))
        self.norm_final = Norm(c, c.width)
        self.readout = Linear(c.width, c.vocab_size, bias=False)
        if c.tie_readout:
            self.readout.weight = self.token_embedding.weight
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)  # torch draws them from its global generator

    def forward(
        self, ids_BxT: Tensor, targets_BxT: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Logits of shape BxTxV; with targets their mean cross-entropy, nats a token. Matmuls run
        in ``dtype``."""
        x_BxTxD = self.token_embedding(ids_BxT)
        if self.position_embedding is not None:
            x_BxTxD = x_BxTxD + self.position_embedding.weight[: ids_BxT.shape[1]]
        if self.norm_embedding is not None:
            x_BxTxD = self.norm_embedding(x_BxTxD)
        for block in self.blocks:
            x_BxTxD = block(x_BxTxD, dtype)
        x_BxTxD = self.norm_final(x_BxTxD).to(dtype)
        if targets_BxT is not None and torch.is_grad_enabled():
            return readout_loss(
                x_BxTxD.flatten(0, 1),
                self.readout.weight,
                targets_BxT.flatten(),
                self.readout_multiplier,
            )
        logits_BxTxV = self.readout(x_BxTxD)
        if self.readout_multiplier != 1:
            logits_BxTxV = logits_BxTxV * self.readout_multiplier
        if targets_BxT is None:
            return logits_BxTxV
        return F.cross_entropy(logits_BxTxV.flatten(0, 1).float(), targets_BxT.flatten())

    def init_factors(self) -> dict[str, float]:
        """Factors on the initial std beyond a parameterization's: residual branches 1/√(2·depth),
        zero queries."""
        factors = {}
        for name, _ in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.down.weight")):
                factors[name] = (2 * self.config.depth) ** -0.5
            elif name.endswith("query.weight") and self.config.zero_query_init:
                factors[name] = 0.0
        return factors


@functools.lru_cache
def wider_copy(c: ModelConfig) -> Transformer:
    """The same architecture with twice the heads, shapes only, to read roles from, not to be
    changed."""
    with torch.device("meta"):
        return Transformer(
            dataclasses.replace(c, width=2 * c.width, kv_heads=c.kv_heads and 2 * c.kv_heads)
        )


@functools.cache
def parameter_count(c: ModelConfig) -> int:
    """Number of trainable parameters, embeddings included; costs no memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in Transformer(c).parameters())


@functools.cache
def flops_per_token(c: ModelConfig) -> float:
    """FLOPs of a training step per token: 6 per weight of a matmul, 12·depth·width·context/2 for
    attention."""
    with torch.device("meta"):
        model = Transformer(c)
        matmul_weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    return 6.0 * matmul_weights + 6.0 * c.depth * c.width * c.context
