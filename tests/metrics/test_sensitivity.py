"""LR sensitivity: a mean over a band, by hand."""

import numpy as np
import pandas as pd
import pytest

from hpt.errors import TableError
from hpt.metrics.sensitivity import lr_sensitivity


def parabola(width, best, curvature, rates):
    loss = [3 + curvature * (x - best) ** 2 for x in rates]
    return pd.DataFrame({"width": width, "lr": np.exp2(rates), "loss": loss})


def test_a_parabola_costs_its_mean_square_distance():
    """Over −2 … 2 octaves the squares are 4, 1, 0, 1, 4: a mean of 2."""
    rates = np.arange(-12.0, -3.0)
    table = pd.concat([parabola(64, -8, 0.1, rates), parabola(128, -9, 0.3, rates)])
    found = lr_sensitivity(table).set_index("width")
    assert found["sensitivity"].to_dict() == pytest.approx({64: 0.2, 128: 0.6})
    assert found["log2_lr"].to_dict() == {64: -8, 128: -9} and found["determined"].all()
    assert (found["rates"] == 5).all()


def test_divergence_counts_as_an_untrained_model_and_a_short_grid_is_said():
    table = pd.DataFrame({"width": 64, "lr": np.exp2([-9.0, -8, -7]), "loss": [3.5, 3.0, np.inf]})
    assert lr_sensitivity(table, octaves=1)["sensitivity"].item() == np.inf
    capped = lr_sensitivity(table, octaves=1, loss_at_start=6.0)
    assert capped["sensitivity"].item() == pytest.approx((0.5 + 0 + 3.0) / 3) and capped["determined"].item()
    assert lr_sensitivity(table, loss_at_start=6.0)["reason"].item() == "the grid ends inside the band"
    with pytest.raises(TableError, match="octaves=0"):
        lr_sensitivity(table, octaves=0)


def test_seeds_are_averaged_and_groups_kept_apart():
    rates = [-9.0, -8.0, -7.0]
    runs = pd.concat([parabola(64, -8, c, rates).assign(seed=s) for s, c in ((0, 0.1), (1, 0.3))])
    table = pd.concat(
        [runs.assign(parameterization=p, loss=runs["loss"] + d) for p, d in (("SP", 1), ("μP", 0))]
    )
    found = lr_sensitivity(table, octaves=1).set_index("parameterization")
    assert found["sensitivity"].to_dict() == pytest.approx({"SP": 0.4 / 3, "μP": 0.4 / 3})
    assert found["loss"].to_dict() == pytest.approx({"SP": 4.0, "μP": 3.0})
