"""Every doubt is told at once, with a call that settles it rightly."""

import pytest
import torch
from printed_calls import SAID, Odd, settled
from torch import nn

from hpt.errors import RoleError
from hpt.parameterization.roles import find_roles


@pytest.mark.parametrize("missing", SAID)
def test_a_doubt_names_parameter_shapes_and_call(missing):
    said = {k: v for k, v in SAID.items() if k != missing}
    with pytest.raises(RoleError) as error:
        find_roles(Odd(32), Odd(8), said)
    text = str(error.value)
    shapes = [str(tuple(Odd(n).get_parameter(missing).shape)) for n in (32, 8)]
    assert repr(missing) in text and all(s in text for s in shapes) and f'roles={{"{missing}": ' in text


def test_the_call_in_the_message_works():
    said = dict(SAID)
    del said["heads"]
    assert settled(Odd(32), Odd(8), said)["heads"].role == "hidden"


class Blocks(nn.Module):
    def __init__(self, n, inner):
        super().__init__()
        self.words = nn.Embedding(10, n)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": nn.Linear(n, inner), "down": nn.Linear(inner, n)}) for _ in range(2)
        )


def test_an_inner_size_that_was_forgotten_is_an_error():
    with pytest.raises(
        RoleError, match=r"(?s)layers.0.up.weight.*does not grow.*layers.0.down.weight"
    ) as error:
        find_roles(Blocks(32, 64), Blocks(16, 64))
    assert "intermediate_size" in str(error.value) and "(64, 16)" in str(error.value)
    meant = {"layers.*.up.weight": "readout", "layers.*.down.weight": "embedding"}
    assert find_roles(Blocks(32, 64), Blocks(16, 64), meant)["layers.1.down.weight"].role == "embedding"


class Raw(nn.Module):
    """A low rank, and a gain, as raw parameters in blocks; positions outside."""

    def __init__(self, n, places=17):
        super().__init__()
        self.words = nn.Embedding(9, n)
        self.places = nn.Parameter(torch.zeros(1, places, n))
        self.layers = nn.ModuleList(nn.Module() for _ in range(3))
        for layer in self.layers:
            layer.a, layer.b = nn.Parameter(torch.zeros(4, n)), nn.Parameter(torch.zeros(n, 4))
            layer.scale = nn.Parameter(torch.ones(1, 1, n))
        self.out = nn.Linear(n, 9)


@pytest.mark.parametrize("places", [17, 5])
def test_one_refusal_for_all_with_what_shapes_suggest(places):
    found = {name: role.role for name, role in settled(Raw(32), Raw(16, places)).items()}
    assert found["places"] == "embedding" and found["layers.1.scale"] == "vector"
    assert found["layers.2.a"] == "readout" and found["layers.2.b"] == "embedding"
