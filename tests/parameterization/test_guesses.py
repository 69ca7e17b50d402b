"""What is likely of a raw parameter, from its layer's code, its bias, its name and its shape."""

import pytest
import torch
import torch.nn.functional as F
from printed_calls import settled
from torch import nn

from hpt.parameterization.roles import find_roles


class InOut(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(inputs, outputs))

    def forward(self, x):
        return x @ self.w


class Turned(InOut):
    def forward(self, x):
        return torch.matmul(x, self.w.T)


class Called(InOut):
    def forward(self, x):
        return F.linear(x, self.w.float())


class Looked(InOut):
    def forward(self, ids):
        return self.w[ids]


class Silent(InOut):
    """Nothing to read, but a bias of the size of its output."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.b = nn.Parameter(torch.zeros(outputs))


class Net(nn.Module):
    def __init__(self, n, layer, sizes):
        super().__init__()
        self.words = nn.Embedding(50, n)
        self.layers = nn.ModuleList(nn.ModuleDict({"map": layer(*sizes(n))}) for _ in range(2))
        self.out = nn.Linear(n, 50)


@pytest.mark.parametrize(
    ("layer", "sizes", "role", "fans"),
    [
        (InOut, lambda n: (n, 4 * n), "hidden", (64, 256)),
        (InOut, lambda n: (24, n), "embedding", (24, 64)),
        (Turned, lambda n: (4 * n, n), "hidden", (64, 256)),
        (Turned, lambda n: (n, 24), "embedding", (24, 64)),
        (Called, lambda n: (24, n), "readout", (64, 24)),
        (Looked, lambda n: (24, n), "embedding", (24, 64)),
        (Silent, lambda n: (4 * n, n), "hidden", (256, 64)),
    ],
)
def test_code_and_bias_tell_the_axes(layer, sizes, role, fans):
    found = settled(Net(64, layer, sizes), Net(32, layer, sizes))["layers.1.map.w"]
    assert (found.role, (found.fan_in, found.fan_out)) == (role, fans)


class Named(nn.Module):
    """State-space decays, positions of a head, segments and a map without a telling name."""

    def __init__(self, n):
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(n, 16))
        self.rel_pos = nn.Parameter(torch.zeros(27, n))
        self.seg_embed = nn.Parameter(torch.zeros(2, n, 8))
        self.fn = nn.Parameter(torch.zeros(24, n))


def test_one_growing_axis_is_never_called_hidden():
    found = settled(Net(64, Named, lambda n: (n,)), Net(32, Named, lambda n: (n,)))
    roles = {name: found[f"layers.0.map.{name}"].role for name in ("A_log", "rel_pos", "seg_embed", "fn")}
    assert roles == {"A_log": "vector", "rel_pos": "embedding", "seg_embed": "embedding", "fn": "readout"}


class Deep(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 3, n, n))


def test_whatever_axes_grow_the_call_settles():
    found = settled(Net(64, Deep, lambda n: (n,)), Net(32, Deep, lambda n: (n,)))
    assert found["layers.0.map.w"].role == "hidden" and found["layers.0.map.w"].growth == 2


class Decays(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(n, 16))

    def forward(self, x):
        return -torch.exp(self.A_log) * x


def test_what_the_code_exponentiates_needs_no_word():
    nets = [Net(n, Decays, lambda n: (n,)) for n in (64, 32)]
    assert find_roles(*nets)["layers.0.map.A_log"].role == "vector"


def test_at_the_base_itself_a_table_is_one():
    class Marked(Net):
        def __init__(self, n):
            super().__init__(n, Silent, lambda n: (n, n))
            self.mark = nn.Parameter(torch.zeros(1, 1, n))

    assert settled(Marked(32), Marked(32))["mark"].role == "embedding"


def test_a_size_of_one_that_some_layer_takes_in_too_is_no_width():
    class Probed(Net):
        def __init__(self, n):
            super().__init__(n, Silent, lambda n: (n, n))
            self.one, self.probe = nn.Linear(1, n), nn.Parameter(torch.zeros(1, 1, 1, n))

    assert settled(Probed(64), Probed(32))["probe"].role == "embedding"
