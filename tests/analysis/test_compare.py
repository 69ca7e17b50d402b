"""Comparisons: the share of a gap that is closed, and exponents that groups could share."""

import numpy as np
import pytest
from known_laws import LAWS, WIDTHS, noisy

from hpt.analysis.compare import compare_exponents, gap_closed, share_exponents
from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import HptError, TableError
from hpt.metrics.law import BETA, GAMMA_LOG
from hpt.metrics.transfer import transfer_report

SP = Law(shape="linex", beta=0.8, gamma=1.4)
EMBD = Law(shape="linex", L_inf=2.4, beta=0.0, gamma=-0.1)


def sweep(laws, noise=0.005, seed=0):
    widths = (32, 64, 128, 256)
    return synthetic_sweep(laws, widths=widths, noise=noise, seeds=2, seed=seed)


def test_share_of_the_gap_closed(report):
    shares = gap_closed(report, from_="SP", by="SP+Embd", to="mup")
    losses = {name: law.best_loss(shares.width) for name, law in LAWS.items()}
    truth = (losses["SP"] - losses["SP+Embd"]) / (losses["SP"] - losses["μP"])
    assert shares.width.tolist() == list(WIDTHS) and shares.determined.all()
    assert shares.share.to_numpy() == pytest.approx(truth, abs=0.06)
    assert ((shares.share_low < shares.share) & (shares.share < shares.share_high)).all()
    runs = report.basins.groupby("width").n.sum()  # all three basins of a width
    assert (
        shares.method.unique().tolist() == ["parametric"]
        and shares.n.tolist() == runs.loc[shares.width].tolist()
    )
    with pytest.raises(TableError, match="'SP\\+LN' is not in the table"):
        gap_closed(report, by="SP+LN")
    same = gap_closed(transfer_report(noisy({"SP": Law(), "SP+Embd": Law(), "μP": Law()}), bootstraps=50))
    assert not same.determined.any() and set(same.reason) == {"the gap is not told from zero"}
    assert set(gap_closed(report, from_="μP", to="SP").reason) == {"the gap is below zero"}


def test_no_gap_where_a_group_is_missing_or_a_width_has_no_well():
    with pytest.raises(TableError, match="No setting has all of"):
        gap_closed(transfer_report(noisy({"SP": Law()}), bootstraps=20))
    table = noisy()
    table = table[(table.width != 32) | (table.parameterization != "μP") | (table.log2_lr < -6.5)]
    shares = gap_closed(transfer_report(table, bootstraps=50)).set_index("width")
    assert np.isnan(shares.share[32]) and not shares.determined[32] and shares.n[32] > 0
    assert shares.determined[64] and shares.method[32] == "" != shares.method[64]


def test_shared_exponents_are_tested_and_narrow_the_intervals():
    same = {
        name: Law(shape="linex", L_inf=2.4 + 0.1 * i, beta=0.8, gamma=1.4) for i, name in enumerate("abcd")
    }
    report = transfer_report(sweep(same, noise=0.01), bootstraps=300)
    test = compare_exponents(report).set_index("exponent")
    assert test.allowed.all() and (test.groups == 4).all()
    assert test.shared["beta"] == pytest.approx(0.8, abs=test.shared_high["beta"] - test.shared_low["beta"])
    shared = share_exponents(report, ("beta", "gamma_log"))
    before, after = report.to_frame(), shared.to_frame()
    assert np.ptp(after.beta) < 1e-9 and after.beta[0] == pytest.approx(test.shared["beta"])
    assert ((after.beta_high - after.beta_low) < 0.8 * (before.beta_high - before.beta_low)).all()
    far, alone = predict_lr(shared, width=8192), predict_lr(report, width=8192)
    spans = [f.log2_lr_high - f.log2_lr_low for f in (far, alone)]
    assert spans[0].mean() < 1.02 * spans[1].mean()  # so far out the bend is all
    assert np.abs(far.log2_lr - [law.best_log2_lr(8192) for law in same.values()]).max() < 0.5
    assert any("beta shared by 4 groups: the data allow it" in note for note in shared.notes)
    assert (after.E >= before.E - 1e-9).all()


def test_a_group_of_two_widths_follows_the_exponents_that_it_has():
    table = sweep({"SP": SP, "μP": EMBD})
    report = transfer_report(table[(table.parameterization == "SP") | (table.width <= 64)], bootstraps=100)
    before, after = report.laws, share_exponents(report).laws
    assert np.ptp(after.beta) < 1e-9 and after[["L_inf", "A", "alpha"]].loc[1].isna().all()
    theta_Bx7 = report.groups[1].drawn("theta_Bx7")
    covariance = np.cov(theta_Bx7[:, [BETA, GAMMA_LOG]], rowvar=False)
    move = after.loc[1, ["beta", "gamma_log"]] - before.loc[1, ["beta", "gamma_log"]]
    slope = covariance[0, 1] / covariance[0, 0]
    assert move.gamma_log / move.beta == pytest.approx(slope, rel=0.25) and move.beta > 0.1


def test_exponents_that_differ_are_told_apart():
    report = transfer_report(sweep({"SP": SP, "μP": EMBD}), bootstraps=300)
    test = compare_exponents(report, ("beta",)).iloc[0]
    assert not test.allowed and test.p < 0.01
    assert any("CONTRADICT" in note for note in share_exponents(report).notes)
    for wrong in ("delta", "gamma"):
        with pytest.raises(HptError):
            compare_exponents(report, (wrong,))


def test_the_test_of_shared_exponents_keeps_its_level():
    same = {name: Law(shape="linex", L_inf=2.4 + 0.1 * i) for i, name in enumerate("abc")}
    p = [
        compare_exponents(transfer_report(sweep(same, noise=0.01, seed=s), bootstraps=60), ("beta",)).p[0]
        for s in range(14)
    ]
    assert np.mean(np.array(p) < 0.05) <= 0.22 and np.mean(np.array(p) < 0.5) <= 0.8
