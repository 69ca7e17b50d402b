"""Figures: they show what they are given, and undetermined things say so."""

import numpy as np
import pandas as pd
import pytest

import hpt
from hpt.analysis.compare import gap_closed
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.parameterization.coordinates import CoordCheck
from hpt.plots.style import LABEL_OCTAVES, label_ends, width_figure

LAWS = {"SP": Law(L_inf=2.8), "SP+Embd": Law(L_inf=2.55), "μP": Law(L_inf=2.5)}


@pytest.fixture(scope="module")
def report():
    return transfer_report(
        synthetic_sweep(LAWS, widths=(32, 64, 128, 256), noise=0.01, seeds=2, seed=0),
        reference="μP",
        bootstraps=60,
    )


def test_basins_have_a_panel_each_and_a_line_a_width(report):
    figure = hpt.plot_basins(report)
    assert [ax.get_title() for ax in figure.axes] == ["SP", "SP+Embd", "μP"]
    ax = figure.axes[0]
    labelled = {line.get_label(): line for line in ax.get_lines() if line.get_label() in ("32", "256")}
    rows = report.table.query("parameterization == 'SP' and width == 256").groupby("log2_lr")["loss"].mean()
    np.testing.assert_allclose(labelled["256"].get_ydata(), rows)
    np.testing.assert_allclose(labelled["256"].get_xdata(), rows.index)


def test_the_mup_axis_is_shifted_by_the_width(report):
    hidden, mup = (hpt.plot_basins(report, convention=c, base_width=32) for c in ("hidden", "mup"))
    shift = {
        label: mup_line.get_xdata()[0] - line.get_xdata()[0]
        for line, mup_line in zip(hidden.axes[0].get_lines(), mup.axes[0].get_lines(), strict=True)
        if (label := line.get_label()) in ("32", "64", "256")
    }
    assert shift == pytest.approx({"32": 0, "64": 1, "256": 3})


def test_many_panels_go_into_rows_of_four():
    laws = {name: Law() for name in ("SP", "SP+Embd", "SP+Attn", "SP+LN", "μP")}
    figure = hpt.plot_basins(synthetic_sweep(laws, widths=(32, 64), count=5))
    figure.draw_without_rendering()
    tops = [round(ax.get_position().y1, 3) for ax in figure.axes]
    assert len(tops) == 5 and len(set(tops[:4])) == 1 and tops[4] < tops[0]
    assert [bool(ax.get_ylabel()) for ax in figure.axes] == [True, False, False, False, True]


def test_regret_is_zero_at_each_widths_own_best(report):
    axes = hpt.plot_basins(report, regret=True).axes
    wells = report.basins.query("parameterization == 'SP' and determined")
    markers = [line for line in axes[0].get_lines() if line.get_marker() == "D"]
    assert len(markers) == len(wells) and all(line.get_ydata() == pytest.approx(0) for line in markers)
    plain = hpt.plot_basins(report).axes[0].get_lines()[0]
    shifted = axes[0].get_lines()[0]
    finite = np.isfinite(plain.get_ydata())
    moved = plain.get_ydata()[finite] - shifted.get_ydata()[finite]
    np.testing.assert_allclose(moved, wells["loss"].iloc[0])


def test_own_runs_are_rings_over_a_reference(report):
    own = pd.DataFrame(
        {
            "parameterization": "SP",
            "width": 64,
            "log2_lr": [-7.0, -6.0],
            "loss": [3.5, 3.6],
            "weight_decay": 0.0,
        }
    )
    figure = hpt.plot_basins(report, mine=own)
    axes = figure.axes

    def rings(ax):
        hollow = [line for line in ax.get_lines() if isinstance(line.get_markerfacecolor(), str)]
        drawn = [line.get_ydata().tolist() for line in hollow if line.get_markerfacecolor() == "none"]
        return [heights for heights in drawn if heights]

    assert rings(axes[0]) == [[3.5, 3.6]]
    assert rings(axes[1]) == rings(axes[-1]) == []
    assert rings(hpt.plot_basins(report, mine=own[:1]).axes[0]) == [[3.5]]
    assert "your runs" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_other_figures_draw(report):
    for figure in (hpt.plot_optimum(report), hpt.plot_metrics(report), hpt.plot_gap(gap_closed(report))):
        figure.draw_without_rendering()
        assert figure.axes


def test_what_is_not_determined_is_said():
    few = transfer_report(synthetic_sweep(LAWS, widths=(32, 64), noise=0.01, seeds=1, seed=0), bootstraps=40)
    figure = hpt.plot_metrics(few)
    figure.draw_without_rendering()
    texts = [t.get_text() for ax in figure.axes for t in ax.texts]
    assert texts.count("not determined") >= 6


def test_loss_curves_and_excess(runs):
    figure = hpt.plot_loss_curves(runs, ["a", "b", "c"], smooth=1)
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), runs[1].train_loss, rtol=1e-6)
    figure = hpt.plot_excess({"panel": [("b", runs[1])]}, {"panel": runs[0]})
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), hpt.excess_loss(runs[1], runs[0]))


def test_labels_at_the_ends_of_lines_do_not_run_into_each_other():
    _, (ax,) = width_figure(1)
    ax.set_yscale("log", base=2)
    label_ends(ax, [(128, 1.0, "a", "red"), (128, 1.01, "b", "blue"), (128, 8.0, "c", "green")])
    heights = {text.get_text(): np.log2(text.xy[1]) for text in ax.texts}
    assert heights["a"] == 0 and heights["c"] == 3
    assert heights["b"] == pytest.approx(LABEL_OCTAVES)


def test_both_conventions_are_two_panels_of_the_same_runs(report):
    figure = hpt.plot_basins(report, convention="both")
    assert [ax.get_title() for ax in figure.axes] == ["SP"] * 2 + ["SP+Embd"] * 2 + ["μP"] * 2
    hidden, mup = figure.axes[:2]
    moved = mup.get_lines()[0].get_xdata() - hidden.get_lines()[0].get_xdata()
    np.testing.assert_allclose(moved, np.log2(32))
    assert "hidden" in hidden.get_xlabel() and "μP" in mup.get_xlabel()


def test_sizes_of_a_coordinate_check_are_geometric_means_with_the_spread_of_seeds():
    quantities = ("activation", "change", "update")
    kinds = [{"role": "hidden", "quantity": quantity} for quantity in quantities]
    sizes = [
        {"step": 2, "width": width, "seed": seed, "rms": rms}
        for width in (32, 64, 128)
        for seed, rms in enumerate((1.0, 4.0))
    ]
    table = pd.DataFrame([kind | size for kind in kinds for size in sizes])
    slopes = pd.DataFrame([kind | {"slope": 0.0, "low": -0.1, "high": 0.1} for kind in kinds])
    figure = hpt.plot_coord_check(CoordCheck("SP", table, None, slopes, ()))
    (bars,) = figure.axes[2].containers
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [(32, 2), (64, 2), (128, 2)])
    (lengths,) = bars.lines[2]
    np.testing.assert_allclose(lengths.get_segments()[0], [(32, 1), (32, 4)])
    assert [text.get_text() for text in figure.axes[2].texts] == ["hidden n^0.00"]
    low, high = np.log2(figure.axes[0].get_ylim())
    assert high - low >= 5 and len({ax.get_ylim() for ax in figure.axes}) == 1
    assert figure._suptitle.get_text() == "coordinate check of SP"


def test_sizes_other_than_widths_have_their_own_axis(report):
    """A sweep over parameters, or tokens, is drawn as one over widths."""
    swept = synthetic_sweep(LAWS, widths=(32, 64, 128, 256), noise=0.01, seeds=2, seed=0)
    sizes = transfer_report(
        swept.rename(columns={"width": "tokens"}), scale="tokens", reference="μP", bootstraps=60
    )
    basins = hpt.plot_basins(sizes)
    assert basins.legends[0].get_title().get_text() == "tokens"
    drawn = (hpt.plot_optimum(sizes), hpt.plot_gap(gap_closed(sizes)))
    assert [figure.axes[0].get_xlabel() for figure in drawn] == ["tokens", "tokens"]
    same = (hpt.plot_optimum(report), hpt.plot_gap(gap_closed(report)))
    for figure, of_widths in zip(drawn, same, strict=True):
        for line, twin in zip(figure.axes[0].lines, of_widths.axes[0].lines, strict=True):
            heights = np.array([line.get_ydata(), twin.get_ydata()], dtype=float)
            np.testing.assert_allclose(*heights, atol=1e-6)
