"""What grows is a width; rows, positions and classes are none, and where shapes cannot tell it is said."""

import pytest
from printed_calls import settled
from torch import nn

from hpt.errors import RoleError
from hpt.parameterization.groups import assign
from hpt.parameterization.roles import find_roles


class Classes(nn.Module):
    def __init__(self, n, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, n), nn.Linear(n, n), nn.Linear(n, classes))


def test_a_number_of_classes_is_no_width():
    """Refused with the size that differs, also where it grows by the width's ratio."""
    for other in (5, 4):
        with pytest.raises(RoleError, match=f"changes from {other} to 10"):
            find_roles(Classes(64, 10), Classes(32, other))
        found = settled(Classes(64, 10), Classes(32, other))
        assert found["net.2.weight"].role == "readout" and found["net.1.weight"].role == "hidden"
        assert found["net.2.weight"].growth == 2


class Words(nn.Module):
    def __init__(self, n, words, places=16):
        super().__init__()
        self.words, self.places = nn.Embedding(words, n), nn.Embedding(places, n)
        self.body, self.out = nn.Linear(n, n), nn.Linear(n, words)


@pytest.mark.parametrize(
    "base", [Words(32, 70), Words(32, 50), Words(32, 100, 8)], ids=["other", "half", "context"]
)
def test_rows_are_no_width(base):
    found = find_roles(Words(64, 100), base)
    roles = {name: role.role for name, role in found.items()}
    assert roles["words.weight"] == roles["places.weight"] == "embedding"
    assert roles["out.weight"] == "readout" and roles["body.weight"] == "hidden"
    assert found["out.bias"].growth is None


def test_rows_that_change_as_the_width_does_are_refused():
    with pytest.raises(RoleError, match=r"rows of 'words.weight' change from 32 to 64"):
        find_roles(Words(64, 64), Words(32, 32))


def test_at_one_width_types_tell():
    found = {name: role.role for name, role in find_roles(Words(32, 9), Words(32, 9)).items()}
    assert found == {name: role.role for name, role in find_roles(Words(32, 9), Words(16, 9)).items()}


class Heads(nn.Module):
    """A list of heads, which looks like a list of blocks."""

    def __init__(self, n, classes):
        super().__init__()
        self.words = nn.Embedding(50, n)
        self.blocks = nn.ModuleList(nn.ModuleDict({"map": nn.Linear(n, n)}) for _ in range(2))
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(n, n), nn.Linear(n, classes)) for _ in range(2))
        self.out = nn.Linear(n, 50)
        self.gain = nn.Parameter(nn.init.ones_(self.out.bias.new_empty(())))


def test_classes_of_a_list_of_heads_are_no_width():
    with pytest.raises(RoleError, match="changes from 7 to 10"):
        find_roles(Heads(64, 10), Heads(32, 7))
    found = settled(Heads(64, 10), Heads(32, 7))
    assert found["heads.1.1.weight"].role == "readout" and found["heads.1.0.weight"].role == "hidden"
    # Their bias grows with nothing, and a scalar elsewhere follows the width.
    assert found["heads.1.1.bias"].growth is None
    roles = {"heads.*.1.weight": "readout"}
    assigned = assign(Heads(64, 10), "mup", base_model=Heads(32, 7), roles=roles)
    assert {each.m for each in assigned.values()} == {2.0}


class Linformer(nn.Module):
    """Attention over a low rank of the positions."""

    def __init__(self, n, context):
        super().__init__()
        self.words = nn.Embedding(50, n)
        layer = {"qkv": nn.Linear(n, 3 * n), "places": nn.Linear(context, 16), "o": nn.Linear(n, n)}
        self.layers = nn.ModuleList([nn.ModuleDict(layer)])
        self.out = nn.Linear(n, 50)


def test_positions_of_a_matrix_are_no_width():
    with pytest.raises(RoleError, match="changes from 48 to 64, with the width: positions"):
        find_roles(Linformer(64, 64), Linformer(32, 48))
    assert settled(Linformer(64, 64), Linformer(32, 48))["layers.0.places.weight"].role == "fixed"
    found = find_roles(Linformer(64, 48), Linformer(32, 48))
    assert found["layers.0.places.weight"].role == "fixed" and found["layers.0.qkv.weight"].role == "hidden"
