"""Effects as bars: their lengths are the estimates; what is not determined is grey, and said."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.factorial import effects
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.plots.effect_bars import plot_effects
from hpt.plots.style import GREY

NAMES = ("SP", "SP+Embd", "SP+LN", "SP+Embd+LN")


def test_effects_as_bars():
    sweep = synthetic_sweep({name: Law(L_inf=2.5 - 0.1 * i) for i, name in enumerate(NAMES)})
    frame = effects(transfer_report(sweep, bootstraps=50), "loss")
    figure = plot_effects(frame)
    assert [ax.get_xlabel().split()[0] for ax in figure.axes] == ["Main", "Interaction", "Shapley"]
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    main = frame[(frame.kind == "main") & frame.estimate.notna()].estimate
    assert sorted(bars) == pytest.approx(sorted(main))


def test_other_groups_have_bars_and_a_colour_of_their_own():
    sweep = pd.concat(
        synthetic_sweep({name: Law() for name in NAMES}, seed=i).assign(weight_decay=decay)
        for i, decay in enumerate((0.0, 0.1))
    )
    figure = plot_effects(effects(transfer_report(sweep, bootstraps=50)), kinds=("main",))
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().texts] == ["λ=0", "λ=0.1"]
    assert len(ax.patches) == 4 and len({bar.get_y() for bar in ax.patches}) == 4


def test_a_reason_stands_in_place_of_a_bar_without_estimate():
    rows = {"figure": "kappa", "kind": "main", "switch": ["Embd", "LN"], "low": [0.1, np.nan]}
    frame = pd.DataFrame(
        {
            **rows,
            "estimate": [0.2, np.nan],
            "high": [0.3, np.nan],
            "determined": False,
            "reason": ["too noisy", "not told apart"],
        }
    )
    figure = plot_effects(frame, kinds=("main",), title="title")
    (ax,) = figure.axes
    (bar,) = ax.patches
    assert bar.get_width() == 0.2 and bar.get_facecolor()[:3] == pytest.approx([0xA8 / 255] * 3)
    assert [note.get_text() for note in ax.texts] == ["not told apart"] and GREY == "#a8a8a8"
    said = figure._suptitle.get_text()
    assert said == "title\ngrey: too noisy (1); not told apart (1)"
    assert ax.get_xlabel() == "Main effect on κ, change of the exponent"
