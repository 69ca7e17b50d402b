"""Agreement of whole curves, by hand."""

import numpy as np
import pandas as pd
import pytest

from hpt.errors import TableError
from hpt.metrics.agreement import TOO_FEW, curve_agreement


def parabola(width, best, curvature, rates, floor=3.0):
    loss = [floor + curvature * (x - best) ** 2 for x in rates]
    return pd.DataFrame({"width": width, "lr": np.exp2(rates), "loss": loss})


RATES = np.arange(-12.0, -3.0)


def test_curves_that_move_by_an_octave_a_doubling_agree_where_rates_fall_as_one_over_n():
    table = pd.concat([parabola(64, -8, 0.1, RATES), parabola(128, -9, 0.1, RATES, floor=2.8)])
    assert curve_agreement(table, beta=1)["distance"].item() == pytest.approx(0)
    unchanged = curve_agreement(table).iloc[0]
    # Rates from −11 to −6, within two octaves of either: (x + 8)² − (x + 9)² = −2x − 17.
    apart = 0.1 * (-2 * np.arange(-11.0, -5) - 17)
    assert unchanged["rates"] == 6
    assert unchanged["distance"] == pytest.approx(np.sqrt(np.mean(apart**2)))
    assert (unchanged["smaller"], unchanged["larger"]) == (64, 128)


def test_a_narrower_basin_does_not_agree_though_its_optimum_stays():
    table = pd.concat([parabola(64, -8, 0.1, RATES), parabola(128, -8, 0.3, RATES)])
    squares = np.arange(-2.0, 3) ** 2
    assert curve_agreement(table)["distance"].item() == pytest.approx(0.2 * np.sqrt(np.mean(squares**2)))


def test_what_is_not_compared_is_said():
    table = pd.concat([parabola(64, -8, 0.1, RATES[:3]), parabola(128, -8, 0.1, RATES[6:])])
    (row,) = curve_agreement(table).to_dict("records")
    assert not row["determined"] and row["reason"] == TOO_FEW and np.isnan(row["distance"])
    diverged = pd.concat([parabola(64, -8, 0.1, RATES), parabola(128, -8, 0.1, RATES)])
    diverged.loc[diverged["lr"] == 2.0**-6, "loss"] = np.inf
    assert curve_agreement(diverged)["distance"].item() == pytest.approx(0)
    diverged.loc[diverged["width"] == 64, "loss"] = parabola(64, -8, 0.1, RATES)["loss"]
    assert curve_agreement(diverged)["distance"].item() == np.inf
    # 3 nats above the best in place of 0.4, at one rate of five.
    capped = curve_agreement(diverged, loss_at_start=6.0)["distance"].item()
    assert capped == pytest.approx(2.6 / np.sqrt(5))
    with pytest.raises(TableError, match="octaves=-1"):
        curve_agreement(table, octaves=-1)
