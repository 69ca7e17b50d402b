"""What torch's layers say of their parameters."""

import pytest
import torch
from torch import nn

from hpt.parameterization.layers import EACH, axes_of, place_of, plain_name


@pytest.mark.parametrize(
    ("layer", "leaf", "axes"),
    [
        (nn.Linear(3, 5), "weight", "out in"),
        (nn.Linear(3, 5), "bias", EACH),
        (nn.Embedding(9, 4), "weight", "rows out"),
        (nn.EmbeddingBag(9, 4), "weight", "rows out"),
        (nn.Conv2d(3, 8, 4), "weight", "out in kernel kernel"),
        (nn.ConvTranspose1d(3, 8, 4), "weight", "in out kernel"),
        (nn.Conv1d(8, 8, 4, groups=8), "weight", EACH),
        (nn.MultiheadAttention(8, 2), "in_proj_weight", "out in"),
        (nn.MultiheadAttention(8, 2, add_bias_kv=True), "bias_k", EACH),
        (nn.LSTM(3, 5), "weight_ih_l0", "out in"),
        (nn.LayerNorm((4, 4)), "weight", EACH),
        (nn.Bilinear(3, 4, 5), "weight", None),
    ],
    ids=str,
)
def test_axes_of_torchs_layers(layer, leaf, axes):
    place = place_of(layer, leaf)
    assert axes_of(place, tuple(layer.get_parameter(leaf).shape)) == axes


def test_parametrized_layers_are_what_they_were():
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 5))
    magnitude, direction = (f"parametrizations.weight.original{i}" for i in (0, 1))
    assert axes_of(place_of(layer, magnitude), (5, 1)) == EACH
    assert axes_of(place_of(layer, direction), (5, 3)) == "out in"


def test_the_hook_form_of_weight_norm():
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = torch.nn.utils.weight_norm(nn.Linear(3, 5))
    assert axes_of(place_of(layer, "weight_g"), (5, 1)) == EACH
    assert axes_of(place_of(layer, "weight_v"), (5, 3)) == "out in"


def test_wrappers_leave_the_name():
    assert plain_name("layers.0._orig_mod.1._checkpoint_wrapped_module.weight") == "layers.0.1.weight"
