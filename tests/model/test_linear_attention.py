"""Gated linear attention, against its recurrence."""

import torch

from hpt.model.linear_attention import GATE_TEMPERATURE, gated_linear_attention


def test_all_pairs_at_once_give_what_the_recurrence_gives():
    """S_t = g_t·S_{t−1} + k_t v_tᵀ, put out as q_t S_t over the root of what is left, squared and
    summed."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=generator)
    gate_BxHxT = 3 * torch.randn(2, 4, 6, generator=generator)
    g_BxHxT = gate_BxHxT.sigmoid() ** (1 / GATE_TEMPERATURE)
    S_BxHxKxK = torch.zeros(2, 4, 8, 8)
    left_BxH = torch.zeros(2, 4)
    expected = []
    for t in range(6):
        S_BxHxKxK = g_BxHxT[..., t, None, None] * S_BxHxKxK + k[..., t, :, None] * v[..., t, None, :]
        left_BxH = g_BxHxT[..., t].square() * left_BxH + 1
        y_BxHxK = (q[..., t, None, :] @ S_BxHxKxK)[..., 0, :]
        expected.append(0.3 * y_BxHxK / left_BxH.sqrt()[..., None])
    mask = torch.full((6, 6), float("-inf")).triu(1)
    found = gated_linear_attention(q, k, v, gate_BxHxT, mask, 0.3)
    torch.testing.assert_close(found, torch.stack(expected, -2))


def test_closed_gates_forget_without_overflow():
    q, k, v = torch.randn(3, 1, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.full((5, 5), float("-inf")).triu(1)
    found = gated_linear_attention(q, k, v, torch.full((1, 1, 5), -1e4), mask, 1.0)
    torch.testing.assert_close(found, (q * k).sum(-1, keepdim=True) * v)
