"""The baseline of `make bench`: a small GPT trained as people usually write it.

Eager fp32, scaled_dot_product_attention, whole logits, torch's cross-entropy, all cores for one run
after another. Same architecture, initial weights, tokens, optimizer and schedule as an hpt run of
parameterization SP.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from hpt.data.batches import TokenSource
from hpt.model.transformer import ModelConfig
from hpt.runs.run_config import RunConfig
from hpt.runs.train_config import lr_factor
from hpt.training.start import build_model


class PlainBlock(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.heads = c.heads
        self.ln_1, self.ln_2 = nn.LayerNorm(c.width, bias=False), nn.LayerNorm(c.width, bias=False)
        self.c_attn, self.c_proj = (
            nn.Linear(c.width, 3 * c.width, bias=False),
            nn.Linear(c.width, c.width, bias=False),
        )
        self.up, self.down = (
            nn.Linear(c.width, 4 * c.width, bias=False),
            nn.Linear(4 * c.width, c.width, bias=False),
        )

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class PlainGPT(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(c.vocab_size, c.width), nn.Embedding(c.context, c.width)
        self.h = nn.ModuleList(PlainBlock(c) for _ in range(c.depth))
        self.ln_f = nn.LayerNorm(c.width, bias=False)
        self.lm_head = nn.Linear(c.width, c.vocab_size, bias=False)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def plain_model(config: RunConfig) -> PlainGPT:
    """The baseline's model with the weights that hpt's run starts from."""
    ours, plain = build_model(config), PlainGPT(config.model)
    with torch.no_grad():
        plain.wte.weight.copy_(ours.token_embedding.weight)
        plain.wpe.weight.copy_(ours.position_embedding.weight)
        plain.lm_head.weight.copy_(ours.readout.weight)
        for a, b in zip(plain.h, ours.blocks, strict=True):
            projections = b.attention.query, b.attention.key, b.attention.value
            a.c_attn.weight.copy_(torch.cat([p.weight for p in projections]))
            a.c_proj.weight.copy_(b.attention.out.weight)
            a.up.weight.copy_(b.mlp.up.weight)
            a.down.weight.copy_(b.mlp.down.weight)
    return plain


def plain_run(config: RunConfig, data: TokenSource, steps: int | None = None) -> tuple[float, float]:
    """Train ``steps`` steps (all by default) with every core; returns (seconds a step, validation
    loss)."""
    c, T = config.train, config.model.context
    model = plain_model(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay, fused=True
    )
    steps = steps or c.steps
    start = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = c.lr * lr_factor(c, step, c.steps)
        loss = model(*data.batch(config.seed, step, c.batch_size, T))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()  # as is usual, to print and watch it
    seconds = (time.perf_counter() - start) / steps
    with torch.no_grad():
        chunks = zip(
            *(t.split(c.batch_size) for t in data.validation(c.validation_sequences, T)), strict=True
        )
        return seconds, sum(model(x, y).item() * len(x) for x, y in chunks) / c.validation_sequences
