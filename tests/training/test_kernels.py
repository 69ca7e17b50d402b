"""What the compiler is told, against torch's own: GELU by one exponential, softmax of rows, clones."""

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from hpt.training import kernels
from hpt.training.kernels import decompositions, normal, write_clones


def traced(function, *inputs):
    """The function as the compiler would see it."""
    return make_fx(function, decompositions(), tracing_mode="fake")(*inputs)


def value_and_slope(h):
    h = h.detach().requires_grad_()
    y = F.gelu(h)
    (slope,) = torch.autograd.grad(y.sum(), h)
    return y.detach(), slope


def test_gelu_takes_one_exponential_and_gives_value_and_slope():
    h = torch.linspace(-9, 9, 4001)
    program = traced(value_and_slope, h)
    called = [node.target for node in program.graph.nodes]
    assert called.count(torch.ops.aten.exp.default) == 1
    assert torch.ops.aten.gelu.default not in called
    for ours, exact in zip(program(h), value_and_slope(h.double()), strict=True):
        torch.testing.assert_close(ours, exact.float(), atol=5e-7, rtol=0)


def test_the_normal_distribution():
    z = torch.linspace(-6, 6, 2001)
    exact, (cdf, density) = torch.distributions.Normal(0.0, 1.0), normal(z)
    torch.testing.assert_close(cdf, exact.cdf(z.double()).float(), atol=2e-7, rtol=0)
    torch.testing.assert_close(density, exact.log_prob(z).exp(), atol=2e-7, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_out_gelu_is_a_ramp(dtype):
    h = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], dtype=dtype)
    y, slope = traced(value_and_slope, h)(h)
    assert y.dtype == slope.dtype == dtype
    assert torch.equal(y, h.clamp_min(0)) and slope.tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("long_row", [5, 2048])
def test_softmax_is_torchs_however_long_the_rows(long_row, monkeypatch):
    monkeypatch.setattr(kernels, "LONG_ROW", long_row)
    x = 9 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    program = traced(lambda x: x.softmax(-1), x)
    torch.testing.assert_close(program(x), x.softmax(-1))
    own = torch.ops.hpt.softmax.default in [node.target for node in program.graph.nodes]
    assert own == (long_row == 5)


def test_a_clone_is_read_as_it_was_written():
    x = torch.arange(6.0).view(2, 3)
    program = make_fx(lambda x: x.clone().T @ x, tracing_mode="fake")(x)
    write_clones(program)
    (clone,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default)
    (reader,) = clone.users
    assert reader.target == torch.ops.aten.as_strided.default
    assert torch.equal(program(x), x.T @ x)
