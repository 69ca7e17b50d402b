"""Roles are total, by shapes and by what the mapping says; sharing is told from tying."""

import pytest
import torch
from printed_calls import SAID, Odd, settled
from torch import nn

import hpt
from hpt.errors import ForwardWarning
from hpt.parameterization.roles import find_roles


def test_a_mapping_settles_what_shapes_cannot():
    found = find_roles(Odd(32), Odd(8), SAID)
    assert set(found) == {n for n, _ in Odd(8).named_parameters()}
    sizes = {n: (r.role, r.fan_in, r.fan_out, r.growth) for n, r in found.items()}
    assert sizes == {
        "place": ("embedding", 9, 32, 4),
        "mix": ("hidden", 32, 64, 4),
        "heads": ("hidden", 32, 32, 4),
        "constant.weight": ("fixed", 3, 5, None),
        "constant.bias": ("vector", 1, 5, None),
        "gain": ("vector", 1, 1, None),
        "out.weight": ("readout", 32, 9, 4),
        "out.bias": ("vector", 1, 9, None),
    }


def test_convolutions_by_mapping():
    model, base = (nn.Sequential(nn.Conv1d(n, 2 * n, 3)) for n in (8, 4))
    found = find_roles(model, base, {"0.weight": "hidden"})
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (24, 16)


def test_torch_attention_layers_have_roles():
    def make(n):
        return nn.ModuleDict(
            {"body": nn.TransformerEncoderLayer(n, n // 4, 4 * n), "words": nn.Embedding(7, n)}
        )

    found = {n: r.role for n, r in find_roles(make(32), make(16)).items()}
    assert {r for n, r in found.items() if n.endswith("proj.weight") or "in_proj_weight" in n} == {"hidden"}
    with pytest.warns(ForwardWarning, match="multiply the queries"):
        hpt.param_groups(make(32), "mup", lr=0.1, base_model=make(16))


def test_sharing_is_no_tying():
    class Universal(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.words, block = nn.Embedding(9, n), nn.ModuleDict({"map": nn.Linear(n, n)})
            self.layers, self.out = nn.ModuleList([block] * 3), nn.Linear(n, 9)

    role = find_roles(Universal(32), Universal(16))["layers.0.map.weight"]
    assert role.role == "hidden" and not role.tied_to and len(role.shared_with) == 2


class Table(nn.Module):
    """A table of one's own make."""

    def __init__(self, rows, n):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, n))


def test_a_table_of_ones_own_is_tied_to_the_readout():
    def make(n):
        model = nn.ModuleDict({"head": nn.Linear(n, 50, bias=False), "words": Table(50, n)})
        model["words"].weight = model["head"].weight
        return model

    role = settled(make(32), make(16))["head.weight"]
    assert role.role == "embedding" and role.tied_to == ("words.weight",) and not role.shared_with
