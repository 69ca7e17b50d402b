"""Verdicts: what a sweep determines, how its interval was made, and by name what it does not tell."""

import numpy as np
import pandas as pd
import pytest
from known_laws import LAWS, WIDTHS, noisy

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law
from hpt.errors import TableError
from hpt.metrics.basin import EDGE
from hpt.metrics.intervals import NOISE_UNKNOWN, WIDE, Figure
from hpt.metrics.transfer import transfer_report
from hpt.metrics.verdicts import (
    AT_BOUND,
    FEW_WIDTHS,
    FIGURES,
    SLOPE_AT_BOUND,
    TOO_WIDE,
    optimum,
    plain_number,
    table_of,
)


def test_a_group_knows_where_its_widths_are(report):
    group = report.groups[0]
    assert [group.at(width) for width in WIDTHS] == [(w, "") for w in range(len(WIDTHS))]
    assert group.at(48) == (None, "not measured at 48")


def test_rows_of_groups_become_one_table():
    rows = {("SP", 1): [{"n": plain_number(32.0)}, {"n": 64}], ("μP", 2): [{"n": plain_number(0.5)}]}
    expected = pd.DataFrame({"rule": ["SP", "SP", "μP"], "depth": [1, 1, 2], "n": [32, 64, 0.5]})
    pd.testing.assert_frame_equal(table_of(("rule", "depth"), rows), expected)


def test_every_figure_says_how_its_interval_was_made_and_from_how_much(report):
    for row in report.to_frame().to_dict("records"):
        assert row["E_method"] == row["E_extrap_method"] == "parametric, ratio"
        assert row["octave_error_method"] == "parametric, folded" and row["octave_error_n"] == len(WIDTHS)
        assert {row[f"{n}_method"] for n in ("alpha", "beta", "gamma", "kappa")} == {"parametric"}
        assert row["R_method"] == ("definition" if row["parameterization"] == "μP" else "parametric")
        wells = report.basins[report.basins.parameterization == row["parameterization"]]
        assert (
            row["E_n"] == wells.n.sum()
            and row["E_extrap_n"] == wells.n.iloc[-1]
            and row["beta_n"] == len(wells)
        )
    assert set(report.basins.method) == {"parametric"} and (report.penalty.R_n > 0).all()


def test_an_edge_at_the_largest_width_leaves_nothing_to_compare_there():
    table = noisy({"SP": Law()})
    cut = table[(table.width != 512) | (table.log2_lr > Law().best_log2_lr(512) + 0.6)]
    row = transfer_report(cut, bootstraps=50).to_frame().iloc[0]
    for name in ("E_extrap", "octave_error"):
        assert np.isnan(row[name]) and row[f"{name}_reason"].startswith(EDGE)
    assert row.kappa_determined and row.E_determined


def test_few_widths_determine_little():
    table = noisy()
    keep = (table.parameterization == "μP") | ((table.parameterization == "SP") & (table.width <= 64))
    few = table[keep | ((table.parameterization == "SP+Embd") & (table.width == 32))]
    frame = transfer_report(few, bootstraps=100).to_frame().set_index("parameterization")
    for name in ("E", "E_extrap", "octave_error", "kappa", "alpha", "R"):
        assert np.isnan(frame[name]["SP"]) and frame[f"{name}_reason"]["SP"] == FEW_WIDTHS
    assert frame.beta_determined["SP"] and frame.beta_low["SP"] < LAWS["SP"].beta < frame.beta_high["SP"]
    assert not frame.loc["SP+Embd", [f"{name}_determined" for name in FIGURES]].any()
    with pytest.raises(TableError, match="'width' has 1 different"):
        transfer_report(table[table.width == 64])


def test_without_a_run_to_spare_the_noise_is_pooled_over_widths_or_the_optima_are_bracketed():
    table = noisy({"SP": Law()}, seeds=1)
    best = table.loc[table.groupby("width").loss.idxmin()].set_index("width").log2_lr
    three = table[(table.log2_lr - table.width.map(best)).abs() <= 1]
    pooled = transfer_report(three, bootstraps=50)
    assert pooled.to_frame().beta_determined[0] and set(pooled.basins.method) == {"parametric"}
    report = transfer_report(three[three.width <= 64], bootstraps=50)
    row, wells = report.to_frame().iloc[0], report.basins
    assert set(wells.method) == {"grid"} and wells.determined.all()
    assert (wells.log2_lr_low == best[[32, 64]].to_numpy() - 1).all()
    assert row.beta_low < Law().beta < row.beta_high and row.gamma_reason == NOISE_UNKNOWN


def test_determined_is_narrow_enough_to_decide_with(report):
    wide = Figure.of(1.0, (0.0, 3.0), widest=2.0)
    assert wide.reason == WIDE and Figure.of(1.0, (0.0, 3.0), widest=4.0).determined
    strict = transfer_report(noisy(), bootstraps=50, octaves=0.01)
    assert set(strict.basins.reason) == {WIDE} and report.basins.determined.all()
    assert set(strict.to_frame().octave_error_reason) == {WIDE}


def test_an_exponent_at_a_bound_is_not_determined():
    rng = np.random.default_rng(0)
    optima = {1880: -12.0, 2330: -8.3, 2420: -7.6}
    rows = [
        {"width": w, "lr": 2.0**k, "loss": 3 + 400 / w + 0.03 * (k - x) ** 2 + 0.003 * rng.standard_normal()}
        for w, x in optima.items()
        for k in np.arange(-14, -5, 0.5)
    ]
    report = transfer_report(pd.DataFrame(rows), bootstraps=50)
    assert report.to_frame().beta_reason[0] == SLOPE_AT_BOUND
    assert predict_lr(report, width=5000).reason[0] == SLOPE_AT_BOUND


def test_an_open_interval_ends_where_the_runs_rise_clearly():
    group = transfer_report(noisy({"SP": Law()}, noise=0.001), bootstraps=50).groups[0]
    found = optimum(group, -7.0, np.array([-np.inf] * 20 + [-7.0] * 20), 5, 0.95, walls=(-8.0, -6.0))
    assert (found.low, found.high) == (-8.0, -7.0) and found.determined


@pytest.mark.parametrize("slope", [-0.1, 0.05])
def test_a_floor_that_the_losses_do_not_show_is_at_a_bound(slope):
    table = noisy({"SP": Law(A=0.0, L_inf=3.0), "μP": Law()})
    straight = (table.parameterization == "SP").to_numpy() * slope * np.log2(table.width / 32)
    frame = transfer_report(
        table.assign(loss=table.loss + straight), reference="μP", bootstraps=100
    ).to_frame()
    row = frame.set_index("parameterization").loc["SP"]
    for name in ("alpha", "kappa", "R"):
        assert not row[f"{name}_determined"] and row[f"{name}_reason"] == AT_BOUND
    assert row.beta_determined and row.gamma_determined


def test_a_wide_penalty_is_not_determined():
    seen = set()
    for seed in range(6):
        laws = {"SP": Law(A=1.0, alpha=0.6), "μP": Law(A=1.0, alpha=0.6, L_inf=2.45)}
        report = transfer_report(noisy(laws, noise=0.01, seeds=1, seed=seed), reference="μP", bootstraps=100)
        row = report.to_frame().set_index("parameterization").loc["SP"]
        reducible = report.laws.A[0] * 512 ** -report.laws.alpha[0]
        if row.R_determined:
            assert row.R_high - row.R_low <= reducible
        seen.add(row.R_reason)
    assert seen & {TOO_WIDE, AT_BOUND}


def test_an_optimum_that_obeys_no_power_law_shows_in_the_errors():
    table = noisy({"SP": Law()}, log2_lrs=np.arange(-13, -2))
    moved = table.assign(log2_lr=table.log2_lr + np.where(table.width == 512, 1.5, 0.0))
    moved["lr"] = 2.0**moved.log2_lr
    good, bad = (transfer_report(t, bootstraps=200) for t in (table, moved))
    a, b = good.to_frame().iloc[0], bad.to_frame().iloc[0]
    assert b.octave_error == pytest.approx(1.5, abs=0.2) and b.octave_error_low > 1
    assert a.octave_error < 0.2 and a.octave_error_low == 0
    assert b.E > 3 * a.E and b.E_extrap > 5 * a.E_extrap
    assert bad.laws.inflation[0] > 2 > good.laws.inflation[0]
    beyond = [predict_lr(report, width=1024).iloc[0] for report in (good, bad)]
    span, wide = (row.log2_lr_high - row.log2_lr_low for row in beyond)
    assert wide > 2 * span


def test_beta_of_a_law_that_bends_is_its_mean_over_the_sizes():
    law = Law(bend=0.3, curvature=0.4)
    report = transfer_report(noisy(law), bootstraps=100)
    (row,) = report.figures.itertuples()
    mean = -np.polyfit(np.log2(WIDTHS), law.best_log2_lr(np.array(WIDTHS)), 1)[0]
    assert row.beta == pytest.approx(mean, abs=0.02) and row.beta_low < mean < row.beta_high
