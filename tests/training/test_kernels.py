"""GELU by one exponential: value and slope of torch's own."""

import pytest
import torch
import torch.nn.functional as F

from hpt.training.kernels import gelu, normal


def test_value_and_slope_are_those_of_gelu():
    h = torch.linspace(-9, 9, 4001, requires_grad=True)
    exact = h.detach().double().requires_grad_()
    F.gelu(exact).sum().backward()
    gelu(h).sum().backward()
    torch.testing.assert_close(gelu(h), F.gelu(exact).float(), atol=5e-7, rtol=0)
    torch.testing.assert_close(h.grad, exact.grad.float(), atol=5e-7, rtol=0)


def test_the_normal_distribution():
    z = torch.linspace(-6, 6, 2001)
    exact, (cdf, density) = torch.distributions.Normal(0.0, 1.0), normal(z)
    torch.testing.assert_close(cdf, exact.cdf(z.double()).float(), atol=2e-7, rtol=0)
    torch.testing.assert_close(density, exact.log_prob(z).exp(), atol=2e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_out_it_is_a_ramp(dtype):
    h = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], dtype=dtype, requires_grad=True)
    y = gelu(h)
    y.sum().backward()
    assert y.dtype == h.grad.dtype == dtype
    assert torch.equal(y, h.clamp_min(0)) and h.grad.tolist() == [0, 0, 0.5, 1, 1]
