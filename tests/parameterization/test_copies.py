"""Two copies are laid side by side, or it is said why they cannot be."""

import pytest
import torch
from printed_calls import SAID, Odd
from torch import nn

from hpt.errors import RoleError
from hpt.parameterization.copies import same_width, see
from hpt.parameterization.roles import find_roles


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({**SAID, "plaice": "embedding"}, "no parameter matches 'plaice'"),
        ({**SAID, "place": "embeding"}, "did you mean 'embedding'"),
        ({**SAID, "heads": ("hidden", "out in other")}, "axis 'other' grows too"),
        ({**SAID, "mix": ("hidden", "out")}, "which axis is its input"),
    ],
)
def test_a_wrong_mapping_is_told(mapping, message):
    with pytest.raises(RoleError, match=message):
        find_roles(Odd(32), Odd(8), mapping)


def test_copies_that_do_not_match():
    with pytest.raises(RoleError, match="which axis is its input is not known for Odd"):
        find_roles(Odd(8), Odd(8))  # one width: the layers' types tell, and this has raw parameters
    with pytest.raises(RoleError, match="missing in the other copy"):
        find_roles(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4)), nn.Sequential(nn.Linear(2, 3)))


def test_a_wrapped_parameter_has_its_plain_name_and_both_shapes():
    model = nn.ModuleDict({"layers": nn.ModuleList([torch.compile(nn.Linear(8, 8), backend="eager")])})
    plain = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4)])})
    seen, names = see(model, plain, {})["layers.0._orig_mod.weight"]
    assert seen.name == "layers.0.weight" and (seen.shape, seen.other) == ((8, 8), (4, 4))
    assert names == ["layers.0._orig_mod.weight"] and seen.axes == ["out", "in"]


def test_width_is_compared_by_shapes():
    assert same_width(nn.Linear(3, 4), nn.Linear(3, 4)) and not same_width(nn.Linear(3, 4), nn.Linear(4, 4))
