"""The transfer report: recovery of known laws, invariances, references, and coverage of its
intervals."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_laws import LAWS, noisy

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import TableError
from hpt.metrics.basin import ALL_DIVERGED, EDGE
from hpt.metrics.transfer import transfer_report
from hpt.metrics.verdicts import FEW_WIDTHS, FIGURES


@pytest.mark.parametrize(("shape", "skew"), [("linex", 0.5), ("parabola", 0.0)])
@pytest.mark.parametrize("widths", [(32, 64, 128), (32, 128, 256, 512, 2048)])
def test_known_laws_are_recovered_without_noise(shape, skew, widths):
    law = Law(shape=shape, skew=skew, beta=0.8, gamma=1.35, alpha=0.42)
    report = transfer_report(synthetic_sweep(law, widths=widths, noise=0.0), bootstraps=50)
    row, fitted = report.to_frame().iloc[0], report.laws.iloc[0]
    for name in ("alpha", "beta", "gamma", "gamma_log", "kappa"):
        assert row[name] == pytest.approx(getattr(law, name), abs=1e-4), name
    assert fitted.L_inf == pytest.approx(law.L_inf, abs=1e-4)
    assert row.E < 1e-6
    if len(widths) > 3:
        assert row.E_extrap < 1e-6 and row.octave_error < 1e-4
        # The law may bend beyond the widths measured: the prior of its exponent has a little say.
        assert predict_lr(report, width=8192).log2_lr[0] == pytest.approx(law.best_log2_lr(8192), abs=2e-3)


def test_order_of_rows_does_not_matter(report):
    shuffled = transfer_report(noisy().sample(frac=1, random_state=1), bootstraps=200)
    for name in ("figures", "basins", "penalty", "laws"):
        pd.testing.assert_frame_equal(getattr(shuffled, name), getattr(report, name))


def test_a_common_factor_of_the_learning_rates_shifts_the_optimum_alone(report):
    scaled = noisy().assign(lr=lambda t: t.lr * 8).drop(columns="log2_lr")
    other = transfer_report(scaled, bootstraps=200)
    for end in ("", "_low", "_high"):
        assert other.basins[f"log2_lr{end}"].to_numpy() == pytest.approx(
            report.basins[f"log2_lr{end}"] + 3, abs=1e-6
        )
        for name in FIGURES:
            column = f"{name}{end}"
            assert other.figures[column].to_numpy() == pytest.approx(
                report.figures[column].to_numpy(), abs=1e-4
            )


def test_a_common_factor_of_the_widths_leaves_the_exponents(report):
    other = transfer_report(noisy().assign(width=lambda t: t.width * 4), bootstraps=200)
    for name in ("alpha", "beta", "gamma", "kappa", "E", "R"):
        assert other.figures[name].to_numpy() == pytest.approx(report.figures[name].to_numpy(), abs=1e-4)


def test_a_constant_added_to_the_losses_moves_the_floor_alone(report):
    other = transfer_report(noisy().assign(loss=lambda t: t.loss + 1), bootstraps=200)
    assert other.laws.L_inf.to_numpy() == pytest.approx(report.laws.L_inf + 1, abs=1e-4)
    for name in ("alpha", "kappa", "E", "R"):
        assert other.figures[name].to_numpy() == pytest.approx(report.figures[name].to_numpy(), abs=1e-4)


def test_shape_of_the_result(report):
    frame = report.to_frame()
    for name in FIGURES:
        ends = ("", "_low", "_high", "_determined", "_reason", "_method", "_n")
        assert {f"{name}{end}" for end in ends} <= set(frame)
        assert (frame[f"{name}_low"] <= frame[name]).all() and (frame[name] <= frame[f"{name}_high"]).all()
        assert (frame[f"{name}_determined"] == (frame[f"{name}_reason"] == "")).all()
    assert len(report.basins) == len(report.penalty) == 15
    assert frame.kappa.to_numpy() == pytest.approx(frame.alpha - 2 * frame.beta + frame.gamma)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.level = 0.5
    frame["E"] = 0
    assert (report.to_frame().E > 0).all()


def test_truth_lies_in_the_intervals_of_a_good_sweep(report):
    frame = report.to_frame().set_index("parameterization")
    for name, law in LAWS.items():
        for figure in ("alpha", "beta", "gamma", "kappa"):
            row = frame.loc[name]
            slack = 0.5 * (row[f"{figure}_high"] - row[f"{figure}_low"])
            assert row[f"{figure}_low"] - slack <= getattr(law, figure) <= row[f"{figure}_high"] + slack
        assert 0.003 < frame.E[name] < 0.007


def test_the_best_group_is_the_reference_unless_another_is_named(report):
    assert report.reference == "μP"
    at = report.to_frame().set_index("parameterization")
    assert at.R["μP"] == at.R_low["μP"] == at.R_high["μP"] == 0
    assert at.R_low["SP"] < 0.1 < at.R_high["SP"]
    loss = report.basins.pivot(index="width", columns="parameterization", values="loss")
    penalty = report.penalty.pivot(index="width", columns="parameterization", values="R")
    assert penalty.SP.to_numpy() == pytest.approx((loss.SP - loss["μP"]).to_numpy())
    assert (report.penalty[report.penalty.parameterization == "μP"].R_high == 0).all()

    decays = pd.concat([noisy(seed=i).assign(weight_decay=w) for i, w in enumerate((0.0, 0.1))])
    for name in ("sp+embd", {"parameterization": "SP+Embd"}):
        named = transfer_report(decays, reference=name, bootstraps=50)
        zero = named.penalty[named.penalty.R == 0]
        assert set(zip(zero.parameterization, zero.weight_decay, strict=True)) == {
            ("SP+Embd", 0.0),
            ("SP+Embd", 0.1),
        }
    for wrong in ("SP+Emb", {"weight_decay": 3.0}, {"depth": 3}):
        with pytest.raises(TableError, match=r"SP|depth"):
            transfer_report(decays, reference=wrong, bootstraps=50)


def test_common_batches_cancel_in_differences():
    def spans(seed):
        made = transfer_report(
            noisy(noise=0.02, common=0.9, seeds=3, seed=seed), reference="SP", bootstraps=200
        )
        wells, penalty = made.basins.query("parameterization == 'SP+Embd'"), made.penalty
        penalty = penalty.query("parameterization == 'SP+Embd'")
        return (penalty.R_high - penalty.R_low).mean(), (wells.loss_high - wells.loss_low).mean()

    difference, alone = np.mean([spans(seed) for seed in range(3)], axis=0)
    assert difference < 0.7 * alone


def test_an_edge_width_has_no_basin_but_its_runs_take_part_in_the_law():
    table = noisy({"SP": Law()})
    cut = table[(table.width != 32) | (table.log2_lr < Law().best_log2_lr(32) - 0.6)]
    flagged, without = (
        transfer_report(cut, bootstraps=200),
        transfer_report(cut[cut.width != 32], bootstraps=200),
    )
    first, a, b = flagged.basins.iloc[0], flagged.figures.iloc[0], without.figures.iloc[0]
    assert (
        first.edge == "high"
        and np.isposinf(first.log2_lr_high)
        and not first.determined
        and first.method == "grid"
    )
    assert flagged.penalty.R_reason[0] == EDGE and np.isnan(flagged.penalty.R[0])
    assert any("width 32" in note and "take part in the law" in note for note in flagged.notes)
    assert (
        (a.beta_n, b.beta_n) == (5, 4)
        and a.E_n == b.E_n
        and a.E_extrap == pytest.approx(b.E_extrap, abs=1e-9)
    )
    for name in ("alpha", "beta", "kappa"):
        assert a[f"{name}_low"] < getattr(Law(), name) < a[f"{name}_high"]


def test_the_runs_of_an_edge_width_narrow_the_law():
    spans = []
    for seed in range(3):
        table = noisy({"SP": Law()}, noise=0.01, seeds=1, seed=seed)
        cut = table[(table.width != 32) | (table.log2_lr < Law().best_log2_lr(32) - 0.6)]
        rows = [transfer_report(t, bootstraps=200).figures.iloc[0] for t in (cut, cut[cut.width != 32])]
        spans.append([row.alpha_high - row.alpha_low for row in rows])
    with_runs, without = np.median(spans, axis=0)
    assert with_runs < 0.8 * without


def test_an_edge_that_the_other_widths_contradict_is_left_out_of_the_law():
    table = noisy({"SP": Law()})
    odd = table.assign(loss=table.loss + 2 * (table.width == 32) * (table.log2_lr - table.log2_lr.min()))
    flagged, without = (
        transfer_report(odd, bootstraps=50),
        transfer_report(odd[odd.width != 32], bootstraps=50),
    )
    assert any("width 32 left out" in note and "AGAINST the edge" in note for note in flagged.notes)
    for name in FIGURES:
        assert flagged.figures[name][0] == pytest.approx(without.figures[name][0], abs=1e-9)


def test_seeds_are_resampled_where_there_are_enough():
    many, few = noisy(seeds=5, common=0.5), noisy(seeds=2)
    auto = transfer_report(many, bootstraps=100)
    assert set(auto.basins.method) == {"seeds"} and set(auto.to_frame().E_method) == {"seeds, ratio"}
    assert set(transfer_report(few, bootstraps=50).basins.method) == {"parametric"}
    assert set(transfer_report(many, resample="parametric", bootstraps=50).basins.method) == {"parametric"}
    assert set(transfer_report(few, resample="seeds", bootstraps=50).basins.method) == {"seeds"}
    some = few[(few.seed == 0) | (few.log2_lr < few.log2_lr.median())]
    assert "seeds + parametric" in set(transfer_report(some, resample="seeds", bootstraps=50).basins.method)
    for table in (noisy(seeds=1), few.drop(columns="seed")):
        with pytest.raises(TableError, match="no seeds to resample"):
            transfer_report(table, resample="seeds")
    with pytest.raises(TableError, match="resample='seed'"):
        transfer_report(few, resample="seed")


def test_a_table_with_gaps_nan_and_divergence():
    table = noisy().sample(frac=0.93, random_state=2)
    table.loc[table.index[::17], "loss"] = np.nan
    table.loc[table.index[5::29], ["loss", "diverged"]] = [np.inf, True]
    table.loc[(table.parameterization == "SP") & (table.width == 64), ["loss", "diverged"]] = [np.inf, True]
    report = transfer_report(table, bootstraps=100)
    wells = report.basins.set_index(["parameterization", "width"])
    assert wells.reason[("SP", 64)] == ALL_DIVERGED
    for key, row in wells[wells.determined].iterrows():
        assert abs(row.log2_lr - LAWS[key[0]].best_log2_lr(key[1])) < 0.5
    assert wells.determined.sum() >= 8
    assert any("without loss" in note for note in report.notes)
    assert "left out" in str(report)


def test_nothing_but_divergence_determines_nothing():
    table = noisy(noise=0.01).assign(loss=np.inf)
    report = transfer_report(table, bootstraps=50)
    frame = report.to_frame()
    assert not frame[[f"{name}_determined" for name in FIGURES]].any().any()
    assert frame.E_reason[0] == f"{FEW_WIDTHS}: {ALL_DIVERGED}"
    assert "—" in str(report) and predict_lr(report, width=1024).log2_lr.isna().all()


def test_any_measure_of_size_and_more_groups_will_do():
    table = (
        noisy({"SP": Law()}).rename(columns={"width": "N"}).drop(columns="parameterization").assign(depth=3)
    )
    report = transfer_report(table, scale="N", by="depth", bootstraps=50)
    assert list(report.basins.columns[:2]) == ["depth", "N"] and "N 32 to 512" in str(report)
    bare = transfer_report(table.drop(columns="depth"), scale="N", bootstraps=50)
    assert bare.group_columns == () and bare.to_frame().beta[0] == pytest.approx(report.to_frame().beta[0])
    assert "all" in str(bare)


def test_intervals_cover_the_truth():
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    result = script.coverage(48, bootstraps=120)
    assert result.covered[["log2_lr", "loss", "R(n)"]].between(90, 99).all()
    assert result.covered[["beta", "kappa", "alpha", "E", "E_extrap"]].between(87, 100).all()
    assert result.median_error["log2_lr"] < 0.06


@pytest.mark.parametrize("factor", [1e-5, 1e9])
def test_the_unit_of_a_size_does_not_matter(report, factor):
    """Parameter counts of 1e11 as little as sizes of 1e-3; with them every figure is what it was."""
    other = transfer_report(noisy().assign(width=lambda t: t.width * factor), bootstraps=200)
    for name in FIGURES:
        for end in ("", "_low", "_high"):
            column = f"{name}{end}"
            assert other.figures[column].to_numpy() == pytest.approx(
                report.figures[column].to_numpy(), rel=1e-6
            )
    far = predict_lr(other, width=4096 * factor).filter(like="log2_lr").to_numpy()
    assert far == pytest.approx(predict_lr(report, width=4096).filter(like="log2_lr").to_numpy(), abs=1e-9)


def test_exponents_that_the_data_do_not_bound_overflow_nothing():
    """Sizes over six decades, with a scatter of optima and losses far above the noise of a run."""
    rng = np.random.default_rng(0)
    rows = []
    for size in (1e5, 1e7, 1e9, 1e11):
        best = -9 + rng.normal()
        floor = 2 + rng.uniform()
        for log2_lr in range(-13, -5):
            loss = floor + 0.04 * (log2_lr - best) ** 2 + 1e-6 * rng.normal()
            rows.append({"params": size, "lr": 2.0**log2_lr, "loss": loss})
    report = transfer_report(pd.DataFrame(rows), scale="params", bootstraps=100)
    assert np.isfinite(predict_lr(report, width=1e13).log2_lr).all()
