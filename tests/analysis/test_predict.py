"""Prediction and design: what a sweep says of runs that were not made."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.predict import BEYOND, NO_FURTHER, NO_HELP, next_width, predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import HptError
from hpt.metrics.transfer import transfer_report

WIDTHS = (32, 64, 128, 256)
SP = Law(shape="linex", beta=0.8, gamma=1.4)
EMBD = Law(shape="linex", L_inf=2.4, beta=0.0, gamma=-0.1)


def sweep(laws=None, noise=0.005, seeds=2, seed=0, **changes):
    laws = laws or {"SP": SP, "μP": EMBD}
    return synthetic_sweep(laws, widths=WIDTHS, noise=noise, seeds=seeds, seed=seed, **changes)


@pytest.fixture(scope="module")
def report():
    return transfer_report(sweep(), bootstraps=300)


def test_penalties_are_those_of_the_law(report):
    frame = predict_lr(report, width=512, small=32).set_index("parameterization")
    exact = {
        name: float(law.loss(512, law.best_log2_lr(256)) - law.best_loss(512))
        for name, law in (("SP", SP), ("μP", EMBD))
    }
    default = predict_lr(report, width=512).set_index("parameterization")
    assert (default.small == 256).all() and (frame.small == 32).all()
    assert default.unchanged["SP"] == pytest.approx(exact["SP"], rel=0.25)
    assert default.unchanged_low["SP"] < exact["SP"] < default.unchanged_high["SP"]
    assert default.unchanged["μP"] < 0.01 and default.unchanged_reason["SP"] == ""
    assert (default.penalty < 0.01).all() and (default.penalty <= default.penalty_high).all()
    assert (default.method == "parametric").all() and (default.n == len(WIDTHS)).all()
    assert frame.unchanged["SP"] > 3 * default.unchanged["SP"]
    assert predict_lr(report, width=2**20, small=32).unchanged_reason[0] == BEYOND


def test_the_expected_penalty_grows_with_distance_and_matches_what_repeats_pay():
    paid, expected = [], []
    for seed in range(12):
        report = transfer_report(sweep({"SP": SP}, noise=0.02, seeds=1, seed=seed), bootstraps=100)
        made = predict_lr(report, width=4096)
        paid.append(float(SP.loss(4096, made.log2_lr[0]) - SP.best_loss(4096)))
        expected.append(made.penalty[0])
    assert 0.3 < np.mean(expected) / np.mean(paid) < 4


def test_what_cannot_be_predicted_is_named(report):
    single = transfer_report(
        sweep().query("parameterization != 'SP' or width == 32 or width == 64"), bootstraps=50
    )
    assert predict_lr(single, width=1024).notna().all(axis=None)
    with pytest.raises(HptError, match="small=48"):
        predict_lr(report, width=512, small=48)
    with pytest.raises(HptError, match="out of range"):
        next_width(report, width=-1)


def test_the_next_width_shrinks_the_interval_as_promised():
    promised, came = [], []
    for seed in range(8):
        table = sweep({"SP": SP}, noise=0.01, seed=seed)
        report = transfer_report(table, bootstraps=150)
        every = next_width(report, width=2048, every=True).set_index("width")
        promised.append(every.span_then[1024])
        more = synthetic_sweep(SP, widths=[1024], seeds=2, noise=0.01, seed=100 + seed)
        ends = predict_lr(transfer_report(pd.concat([table, more]), bootstraps=150), width=2048)
        came.append(float(ends.log2_lr_high[0] - ends.log2_lr_low[0]))
    assert np.median(came) == pytest.approx(np.median(promised), rel=0.35)
    assert every.span_then[1024] < every.span_then[352] < every.span[352]


def test_the_next_width_is_the_one_that_pays():
    report = transfer_report(sweep(), bootstraps=150)
    every = next_width(report, width=2048, every=True)
    best = next_width(report, width=2048)
    assert not set(every.width) & set(WIDTHS) and every.width.between(32, 2048).all()
    assert len(best) == 2 and best.best.all() and (best.gain >= 0.1).all()
    able = every[(every.parameterization == "SP") & (every.gain >= 0.1)]
    assert best.width[0] == able.width.iloc[np.argmax(-np.log1p(-able.gain) / able.cost)]
    assert best.log2_lr_from[0] < SP.best_log2_lr(best.width[0]) < best.log2_lr_to[0]
    thorough = next_width(report, width=2048, least_gain=0.2)
    assert (thorough.gain >= 0.2).all() and (thorough.width >= best.width).all()
    assert set(next_width(report, width=300, least_gain=0.99).reason) == {NO_HELP}
    nothing = next_width(report, width=32)
    assert nothing.width.isna().all() and set(nothing.reason) == {NO_FURTHER}
    assert (every.width % 32 == 0).all()  # heads of the widths measured divide them
    flat = next_width(report, width=2048, cost=lambda n: 1.0)
    assert flat.gain.to_numpy() == pytest.approx(every.groupby("parameterization").gain.max().to_numpy())


def test_predictions_widen_with_distance():
    laws = {
        "SP": Law(),
        "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.5),
        "μP": Law(L_inf=2.4, alpha=0.55, beta=1.0, gamma=1.7),
    }
    widths = (32, 64, 128, 256, 512)
    table = synthetic_sweep(laws, widths=widths, noise=0.005, seeds=2)
    report = transfer_report(table, bootstraps=200)
    near, far = predict_lr(report, width=512), predict_lr(report, width=16384)
    assert list(near.columns[:2]) == ["parameterization", "width"]
    for prediction, width in ((near, 512), (far, 16384)):
        for row, law in zip(prediction.to_dict("records"), laws.values(), strict=True):
            assert row["log2_lr"] == pytest.approx(law.best_log2_lr(width), abs=0.3)
            assert row["log2_lr_low"] < row["log2_lr"] < row["log2_lr_high"]
            assert row["lr"] == pytest.approx(2 ** row["log2_lr"])
    assert ((far.log2_lr_high - far.log2_lr_low) > (near.log2_lr_high - near.log2_lr_low)).all()
    with pytest.raises(HptError):
        predict_lr(report, width=0)


def test_an_unsure_prediction_lies_near_the_largest_widths_optimum():
    """The exponent beyond the widths measured has a prior, 0 ± 1: it halves what noise makes of two
    widths, and leaves a sure law alone."""
    law = Law(beta=0.5)
    off, straight = [], []
    for seed in range(12):
        table = synthetic_sweep(law, widths=(32, 64), noise=0.1, seed=seed)
        report = transfer_report(table, bootstraps=100)
        basins = report.basins.log2_lr
        if basins.notna().all():
            truth = law.best_log2_lr(128)
            off.append(predict_lr(report, width=128).log2_lr[0] - truth)
            straight.append(2 * basins[1] - basins[0] - truth)
    assert len(off) > 6 and np.std(off) < 0.7 * np.std(straight)
    sure = transfer_report(synthetic_sweep(law, noise=0.003, seeds=3), bootstraps=100)
    assert predict_lr(sure, width=1024).log2_lr[0] == pytest.approx(law.best_log2_lr(1024), abs=0.03)


def test_a_small_width_that_one_group_lacks_is_named():
    table = sweep().query("parameterization != 'SP' or width != 32")
    made = predict_lr(transfer_report(table, bootstraps=50), width=512, small=32)
    made = made.set_index("parameterization")
    assert made.unchanged_reason.to_dict() == {"SP": "not measured at 32", "μP": ""}
    assert np.isnan(made.unchanged["SP"]) and made.penalty.notna().all()
