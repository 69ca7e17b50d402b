"""Gated linear attention: a mixer of tokens without softmax, that forgets by gates of its own.

Each head keeps a matrix S_t = g_t·S_{t−1} + k_t v_tᵀ and puts out scale·q_t S_t: that of Yang et al. 2024
(arXiv 2312.06635) with one gate a head in place of one a channel, and, in place of a norm, outputs divided
by √Σ_s (share of token s that is left)², so that their size does not hang on how many are. Written out
over all pairs of tokens, it is two matmuls, as attention is.

Shapes: B sequences of a batch, T tokens of context, H heads, K head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

#: ln g is that of a sigmoid over this: a gate at rest keeps 0.5^(1/16), 96 %, as in the paper.
GATE_TEMPERATURE = 16


def gated_linear_attention(q, k, v, gate_BxHxT, mask_TxT, scale) -> torch.Tensor:
    """The outputs BxHxTxK for q, k, v of shape BxHxTxK; ``gate_BxHxT`` is what the sigmoid of the gates
    takes."""
    log_kept_BxHxT = (F.logsigmoid(gate_BxHxT.float()) / GATE_TEMPERATURE).cumsum(-1)
    # What is left at t of what came at s: the product of the gates between them.
    since_BxHxTxT = log_kept_BxHxT[..., :, None] - log_kept_BxHxT[..., None, :]
    left_BxHxTxT = (since_BxHxTxT + mask_TxT).exp()
    share_BxHxTxT = left_BxHxTxT / left_BxHxTxT.square().sum(-1, keepdim=True).sqrt()
    return ((q * scale) @ k.mT * share_BxHxTxT.to(q.dtype)) @ v
