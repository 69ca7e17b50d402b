"""Does the learning rate transfer? The whole experiment before your eyes, with torch alone: text, model,
groups, loop, sweep.

    python notebooks/minimal.py

trains SP and SP+Embd at three widths and six learning rates each, prints every loss, and says where the best
one lies and what it is worth. What hpt has beyond this file is care and speed.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

CONTEXT, BATCH, DEPTH, HEAD = 64, 16, 2, 16
VOCAB = 256  # bytes


# --- Text: the Python sources of torch, as bytes ------------------------------------------------------------
def read_text(most=8_000_000):
    """The first so many bytes, as a tensor of ids."""
    content = bytearray()
    for file in sorted(Path(torch.__file__).parent.rglob("*.py")):
        content += file.read_bytes()
        if len(content) >= most:
            break
    return torch.frombuffer(content[:most], dtype=torch.uint8).long()


def batch_of(text, step, size=BATCH):
    """Inputs and targets of a step: the same for every model, so that losses can be subtracted."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - CONTEXT - 1, (size, 1), generator=generator)
    ids = text[starts + torch.arange(CONTEXT + 1)]
    return ids[:, :-1], ids[:, 1:]


# --- Model: a pre-norm Transformer --------------------------------------------------------------------------
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # logits times 1/√HEAD
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, width, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.width = width
        self.token_embedding = nn.Embedding(VOCAB, width)  # starts at std 1, whatever the width
        self.position_embedding = nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width, bias=False)
        self.readout = nn.Linear(width, VOCAB, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def forward(self, ids):
        x = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


# --- Groups: the fix is here --------------------------------------------------------------------------------
def groups_of(model, lr, embd):
    """SP gives all parameters one rate; SP+Embd gives embeddings lr · width, which stays as lr falls."""
    named = list(model.named_parameters())
    lookups = [parameter for name, parameter in named if "embedding" in name]
    others = [parameter for name, parameter in named if "embedding" not in name]
    return [{"params": lookups, "lr": lr * model.width if embd else lr}, {"params": others, "lr": lr}]


# --- Loop ---------------------------------------------------------------------------------------------------
def lr_factor(step, steps, warmup=0.2, decay=0.2):
    """Warm-up, stable, decay: the share of the peak rate at the middle of a step."""
    t = (step + 0.5) / steps
    return min(t / warmup, 1, (1 - t) / decay)


def loss_of(model, inputs, targets):
    """Mean cross-entropy, nats a token."""
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def train(model, groups, batch, steps, factor=lr_factor):
    """Train in place. ``batch(step)`` gives inputs and targets, ``factor(step, steps)`` the schedule;
    returns the loss of each step."""
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    peaks = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for step in range(steps):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor(step, steps)
        loss = loss_of(model, *batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- Sweep --------------------------------------------------------------------------------------------------
def sweep(text, widths=(16, 32, 64), log2_lrs=range(-8, -2), steps=300):
    """Held-out loss of every variant, width and learning rate."""
    held_out = batch_of(text[-len(text) // 10 :], step=0, size=8 * BATCH)
    text = text[: -len(text) // 10]
    found = {}
    for embd, width in [(embd, width) for embd in (False, True) for width in widths]:
        for log2_lr in log2_lrs:
            model = Model(width)
            train(model, groups_of(model, 2.0**log2_lr, embd), lambda step: batch_of(text, step), steps)
            with torch.no_grad():
                loss = loss_of(model, *held_out).item()
            found[embd, width, log2_lr] = loss if math.isfinite(loss) else math.inf
    return found


if __name__ == "__main__":
    found = sweep(read_text())
    for embd, width in dict.fromkeys(key[:2] for key in found):
        losses = {rate: loss for (*cell, rate), loss in found.items() if cell == [embd, width]}
        best = min(losses, key=losses.get)
        basin = "  ".join(f"2^{rate} {loss:.3f}" for rate, loss in losses.items())
        print(
            f"{'SP+Embd' if embd else 'SP':8} width {width:3}: {basin}   best at 2^{best}: {losses[best]:.3f}"
        )
