"""The readout's loss against torch's cross-entropy: value, gradients, rounding, chunks."""

import math

import pytest
import torch
import torch.nn.functional as F

from hpt.model import loss as module
from hpt.model.loss import readout_loss


def inputs(dtype=torch.float32, N=24, D=8, V=50):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g).to(dtype).requires_grad_()
    weight = torch.randn(V, D, generator=g).requires_grad_()
    return x, weight, torch.randint(0, V, (N,), generator=g)


def both(x, weight, targets, multiplier=1.0):
    """Loss and gradients (ours, torch's)."""
    ours = readout_loss(x, weight, targets, multiplier)
    plain = F.cross_entropy(multiplier * F.linear(x.float(), weight), targets)
    return [(loss.detach(), *torch.autograd.grad(3 * loss, (x, weight))) for loss in (ours, plain)]


@pytest.mark.parametrize("multiplier", [1.0, 0.25])
@pytest.mark.parametrize(("logits", "tokens"), [(2**24, 512), (350, 512), (1, 512), (2**24, 3)])
def test_equals_torch_in_fp32_however_it_is_chunked(multiplier, logits, tokens, monkeypatch):
    monkeypatch.setitem(module.LOGITS_AT_A_TIME, "cpu", logits)
    monkeypatch.setitem(module.TOKENS_AT_A_TIME, "cpu", tokens)
    for ours, plain in zip(*both(*inputs(), multiplier), strict=True):
        torch.testing.assert_close(ours, plain)


def test_bf16_is_off_by_rounding_alone():
    (loss, d_x, d_w), (loss32, d_x32, d_w32) = both(*inputs(torch.bfloat16, N=512, D=32))
    assert loss.dtype == d_w.dtype == torch.float32 and d_x.dtype == torch.bfloat16
    assert abs(loss / loss32 - 1) < 3e-3
    for ours, plain in ((d_x.float(), d_x32.float()), (d_w, d_w32)):
        assert (ours - plain).norm() / plain.norm() < 1e-2


@pytest.mark.parametrize("p", [0.5, 0.9, 0.99, 0.998, 0.9998, 0.999999])
def test_a_confident_token_is_right_to_bf16s_rounding(p):
    """Its loss, and its gradient in the readout's row, where p would be rounded to 1."""
    V = 2048
    confident = math.log((V - 1) * p / (1 - p))
    x = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.zeros(V, 1).index_fill_(0, torch.tensor(7), confident).bfloat16().float().requires_grad_()
    loss = readout_loss(x, weight, torch.tensor([7]))
    exact = F.cross_entropy(x.double() @ weight.double().T, torch.tensor([7]))
    rounding = torch.finfo(torch.bfloat16).eps
    assert loss.item() == pytest.approx(exact.item(), rel=rounding)
    d_w, exact_d_w = (torch.autograd.grad(value, weight)[0] for value in (loss, exact))
    torch.testing.assert_close(d_w[7], exact_d_w[7], rtol=rounding, atol=0)


def test_a_hopeless_token_costs_a_finite_loss_and_a_full_gradient():
    x, weight = torch.tensor([[1.0]]).requires_grad_(), torch.tensor([[200.0], [-200.0]])
    loss = readout_loss(x, weight, torch.tensor([1]))
    assert 87 < loss < 400
    assert torch.autograd.grad(loss, x)[0].item() == pytest.approx(400)


def test_nan_stays_nan():
    x, weight, targets = inputs()
    with torch.no_grad():
        x[3, 2] = float("nan")
    assert readout_loss(x, weight, targets).isnan()


def test_stacks_under_vmap():
    x, weight, targets = inputs()
    weights = torch.stack([weight.detach(), -weight.detach()])
    stacked = torch.func.vmap(torch.func.grad(lambda w: readout_loss(x.detach(), w, targets)))(weights)
    for w, grad in zip(weights, stacked, strict=True):
        w = w.clone().requires_grad_()
        torch.testing.assert_close(grad, torch.autograd.grad(readout_loss(x.detach(), w, targets), w)[0])
