"""Colours, axes and error bars that the figures share."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.style import COLORS, by_group, color_of, error_bars, log_axis, new_figure


def test_sixteen_colours_tell_sixteen_variants_apart():
    assert len({color_of(str(p)) for p in PARAMETERIZATIONS}) == 16
    assert set(COLORS) == {str(p) for p in PARAMETERIZATIONS}
    assert color_of("my rule") == color_of("my rule") and color_of("my rule").startswith("#")


@pytest.mark.parametrize(
    ("span", "plain"), [((0.0036, 0.0056), True), ((0.02, 0.2), True), ((1e-4, 1.0), False)]
)
def test_a_short_logarithmic_axis_has_plain_numbers(span, plain):
    figure, (ax,) = new_figure(1)
    ax.plot(span, (0, 1))
    log_axis(ax)
    figure.draw_without_rendering()
    low, high = ax.get_xlim()
    assert ax.get_xscale() == "log" and low < span[0] < span[1] < high
    shown = {}
    for tick, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        if low <= tick <= high:
            shown[tick] = label.get_text()
    assert len(shown) >= 2
    assert all((text == f"{tick:g}") == plain for tick, text in shown.items())


def test_error_bars_are_distances_to_the_ends():
    frame = pd.DataFrame({"x": [1.0, 2.0], "x_low": [0.5, 2.1], "x_high": [2.0, 4.0]})
    np.testing.assert_allclose(error_bars(frame, "x"), [[0.5, 0.1], [1.0, 2.0]])


def test_rows_of_each_group_keep_their_order_and_are_called_by_what_varies():
    frame = pd.DataFrame(
        {"arm": ["q", "p", "p"], "parameterization": "SP", "weight_decay": 0.0, "x": [1, 2, 3]}
    )
    report = SimpleNamespace(basins=frame, group_columns=("arm", "parameterization", "weight_decay"))
    assert {name: list(rows.x) for name, rows in by_group(frame, report).items()} == {
        "q SP": [1],
        "p SP": [2, 3],
    }
    one_arm = SimpleNamespace(basins=frame[1:], group_columns=report.group_columns)
    assert list(by_group(frame[1:], one_arm)) == list(by_group(frame[2:], one_arm)) == ["SP"]
    assert list(by_group(frame, SimpleNamespace(basins=frame, group_columns=()))) == [""]
