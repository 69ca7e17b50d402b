"""Roles: total, strict, and every doubt told with the call that settles it."""

import pytest
import torch
from torch import nn

import hpt
from hpt.errors import ForwardWarning, RoleError
from hpt.parameterization.roles import find_roles


class Odd(nn.Module):
    """Raw parameters whose axes no layer tells."""

    def __init__(self, n):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(9, n))
        self.mix = nn.Parameter(torch.zeros(n, 2 * n))
        self.heads = nn.Parameter(torch.zeros(4, n, n))
        self.constant = nn.Linear(3, 5)
        self.gain = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(n, 9)


SAID = {"place": "embedding", "mix": ("hidden", "in out"), "heads": ("hidden", "heads out in")}


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
    with pytest.raises(RoleError) as error:
        find_roles(Odd(32), Odd(8), said)
    call = str(error.value).split("roles=")[1].split("}")[0] + "}"
    assert find_roles(Odd(32), Odd(8), {**said, **eval(call)})["heads"].role == "hidden"


def test_convolutions_by_mapping():
    model, base = (nn.Sequential(nn.Conv1d(n, 2 * n, 3)) for n in (8, 4))
    found = find_roles(model, base, {"0.weight": "hidden"})
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (24, 16)


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


def test_torch_attention_layers_have_roles():
    def make(n):
        return nn.ModuleDict(
            {"body": nn.TransformerEncoderLayer(n, n // 4, 4 * n), "words": nn.Embedding(7, n)}
        )

    found = {n: r.role for n, r in find_roles(make(32), make(16)).items()}
    assert {r for n, r in found.items() if n.endswith("proj.weight") or "in_proj_weight" in n} == {"hidden"}
    with pytest.warns(ForwardWarning, match="multiply the queries"):
        hpt.param_groups(make(32), "mup", lr=0.1, base_model=make(16))


def settled(model, base):
    """Roles by the call that the refusal prints."""
    with pytest.raises(RoleError) as error:
        find_roles(model, base)
    said = eval("{" + str(error.value).split("roles={")[1].split("}")[0] + "}")
    return find_roles(model, base, said)


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


def test_sharing_is_no_tying():
    class Universal(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.words, block = nn.Embedding(9, n), nn.ModuleDict({"map": nn.Linear(n, n)})
            self.layers, self.out = nn.ModuleList([block] * 3), nn.Linear(n, 9)

    role = find_roles(Universal(32), Universal(16))["layers.0.map.weight"]
    assert role.role == "hidden" and not role.tied_to and len(role.shared_with) == 2


def test_at_one_width_types_tell():
    found = {name: role.role for name, role in find_roles(Words(32, 9), Words(32, 9)).items()}
    assert found == {name: role.role for name, role in find_roles(Words(32, 9), Words(16, 9)).items()}
