"""An estimate, its interval, and whether it is determined."""

import numpy as np
import pytest

from hpt.metrics.intervals import NOISE_UNKNOWN, OPEN, Figure, interval, ratio_interval, spanning
from hpt.metrics.verdicts import AT_BOUND, FEW_WIDTHS


def test_a_figure_is_determined_unless_there_is_a_reason():
    sure = Figure.of(1.0, (0.5, 2.0), method="parametric", n=7)
    assert sure.determined and sure.reason == "" and sure.n == 7
    assert Figure.of(1.0, (0.5, 2.0), AT_BOUND).reason == AT_BOUND
    assert Figure.of(1.0, (0.5, np.inf)).reason == OPEN
    unknown = Figure.of(1.0, method="parametric")
    assert unknown.reason == NOISE_UNKNOWN and unknown.method == "" and not unknown.determined
    assert np.isnan(Figure.nothing(FEW_WIDTHS).estimate)


def test_a_figure_comes_back_from_the_columns_it_fills():
    figure = Figure.of(0.5, (0.4, 0.7), method="seeds", n=3)
    row = figure.columns("E")
    assert list(row) == "E E_low E_high E_determined E_reason E_method E_n".split()
    assert Figure.from_row(row, "E") == figure and str(figure) == "0.50 [0.40, 0.70]"
    assert figure.interval("E") == {"E": 0.5, "E_low": 0.4, "E_high": 0.7}


def test_intervals_of_replicates():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal(20_000)
    assert interval(draws, 0.95) == pytest.approx((-1.96, 1.96), abs=0.05)
    draws[::10] = np.nan
    assert interval(draws, 0.95) == (-np.inf, np.inf)
    low, high = ratio_interval(2.0, np.sqrt(rng.chisquare(50, 20_000)), 0.95)
    assert (low, high) == pytest.approx((2.0 * np.sqrt(50 / 71.42), 2.0 * np.sqrt(50 / 32.36)), rel=0.01)


def test_without_replicates_there_is_no_interval():
    none = np.empty(0)
    assert np.isnan([interval(none, 0.95), ratio_interval(2.0, none, 0.95)]).all()
    assert ratio_interval(2.0, np.zeros(5), 0.95) == (2.0, 2.0)


def test_an_interval_is_widened_to_hold_the_estimate():
    assert spanning(3.0, (1.0, 2.0)) == (1.0, 3.0) and spanning(0.0, (1.0, 2.0)) == (0.0, 2.0)
    assert np.isnan(spanning(0.0, (np.nan, np.nan))).all()
