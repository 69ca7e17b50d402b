"""Phase diagrams: what they draw, and on which axes."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.plots.phase_page import page_data
from hpt.plots.phases import figure_range, plot_phases
from hpt.plots.style import GREY


def test_the_range_of_an_axis_is_that_of_what_is_determined(doubtful_report):
    frame = doubtful_report.to_frame()
    low, high = figure_range(frame, "R")
    sure = frame[frame.R_determined]
    assert low < sure.R_low.min() and sure.R_high.max() < high < 1
    assert figure_range(frame.assign(E_determined=False, E=np.nan), "E") == pytest.approx((1e-3 / 1.5, 0.15))


def test_only_what_is_determined_and_finite_sets_the_range():
    frame = pd.DataFrame(
        {"E": [1, 9], "E_low": [-np.inf, 8], "E_high": [3, 10], "E_determined": [True, False]}
    )
    assert figure_range(frame, "E") == pytest.approx((1 / 1.5, 3 * 1.5))
    frame = frame.rename(columns=lambda name: name.replace("E", "R"))
    assert figure_range(frame, "R") == pytest.approx((0 - 0.24, 3 + 0.24))


def test_phase_figures_grey_what_is_not_determined(doubtful_report):
    figure = plot_phases(doubtful_report)
    axes = figure.axes
    assert [ax.get_xscale() for ax in axes] == ["log", "linear", "log"]
    drawn = [line for line in axes[2].lines if len(line.get_xdata()) == 1]
    frame = doubtful_report.to_frame().dropna(subset=["E", "R"])
    assert len(drawn) == len(frame)
    grey = sum(line.get_color() == GREY for line in drawn)
    assert grey == (~(frame.E_determined & frame.R_determined)).sum() > 0
    assert "L∞ at a bound" in figure._suptitle.get_text() and "too few widths" in figure._suptitle.get_text()


def test_many_groups_have_a_legend_in_place_of_names(doubtful_report):
    figure = plot_phases(doubtful_report, labels=False)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.texts]
    assert names == ["SP", "SP+Embd", "SP+LN", "μP </script>", "λ=0", "λ=0.1"]
    assert not any(ax.texts for ax in figure.axes)


def test_doses_of_weight_decay_have_their_own_sign():
    laws = {"SP": Law(), "μP": Law(L_inf=2.4)}
    sweeps = [synthetic_sweep(laws, widths=(32, 64), count=5).assign(dose=d) for d in (0.0, 0.3)]
    table = pd.concat(sweeps, ignore_index=True)
    table["weight_decay"] = table.dose / table.lr
    report = transfer_report(table, bootstraps=20)
    (legend,) = plot_phases(report, labels=False).legends
    assert [text.get_text() for text in legend.texts] == ["SP", "μP", "ηλT=0", "ηλT=0.3"]
    data = page_data(report, "t")
    assert data["decay_symbol"] == "ηλT" and {g["decay"] for g in data["groups"]} == {"0", "0.3"}
