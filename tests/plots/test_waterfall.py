"""A waterfall: each bar begins where the last one ended."""

import pandas as pd
import pytest

from hpt.plots.style import GREY
from hpt.plots.waterfall import plot_waterfall


def test_bars_follow_each_other_and_undetermined_ones_are_grey():
    steps = pd.DataFrame(
        {
            "width": [64, 64, 128, 128],
            "from": ["SP", "SP+Embd"] * 2,
            "to": ["SP+Embd", "μP"] * 2,
            "gain": [0.1, 0.1, 0.3, -0.05],
            "gain_low": [0.0, 0.0, 0.25, -0.1],
            "gain_high": [0.2, 0.2, 0.35, 0.0],
            "share": [0.5, 0.5, 1.2, -0.2],
            "determined": [True, True, True, False],
            "reason": ["", "", "", "not told from zero"],
        }
    )
    figure = plot_waterfall(steps)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    first, second = ax.patches
    assert (first.get_x(), first.get_width()) == (0, 0.3)
    assert second.get_x() == pytest.approx(0.3) and second.get_width() == pytest.approx(-0.05)
    assert second.get_facecolor() == pytest.approx(_rgba(GREY)) != first.get_facecolor()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["SP+Embd", "μP"]
    assert ax.texts[0].get_text() == "+0.300 nats, 120%"


def _rgba(color):
    from matplotlib.colors import to_rgba

    return to_rgba(color)
