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
    assert repr(missing) in text and all(s in text for s in shapes) and f'roles={{"{missing}": (' in text


def test_the_call_in_the_message_works():
    said = dict(SAID)
    del said["heads"]
    with pytest.raises(RoleError) as error:
        find_roles(Odd(32), Odd(8), said)
    call = str(error.value).split("roles=")[1].split("}")[0] + "}"
    assert find_roles(Odd(32), Odd(8), {**said, **eval(call)})["heads"].role == "hidden"


def test_convolutions_by_mapping():
    model, base = (nn.Sequential(nn.Conv1d(n, 2 * n, 3)) for n in (8, 4))
    found = find_roles(model, base, {"0.weight": ("hidden", "out in kernel")})
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (24, 16)


def test_the_call_in_the_message_works_for_an_image():
    model, base = (nn.Sequential(nn.Conv2d(n, 2 * n, 3)) for n in (8, 4))
    with pytest.raises(RoleError) as error:
        find_roles(model, base)
    call = str(error.value).split("roles=")[1].split("}")[0] + "}"
    found = find_roles(model, base, eval(call))
    assert (found["0.weight"].fan_in, found["0.weight"].fan_out) == (72, 16)


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
    with pytest.raises(RoleError, match="both models"):
        find_roles(Odd(8), Odd(8))
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
    with pytest.raises(RoleError, match=r"layers.0.up.weight.*does not grow.*layers.0.down.weight") as error:
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
