"""Doubt about the law: exact where the law is, wide where sizes cannot tell, learned where they can."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.bend import SIGMA_K, Bend, drift_covariance, loss_bend, mean_slope, prior_of_sigma
from hpt.metrics.transfer import transfer_report

X = np.arange(5.0)


def bend(left, spread=0.05, x=X, B=4000):
    left = np.asarray(left, float)
    return Bend.of(x, left, np.full(len(x), spread**2), B, np.random.default_rng(0))


def test_the_drift_is_the_integral_of_a_random_walk():
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((20_000, 400)) * 0.1  # a hundredth of an octave each
    walk = np.cumsum(np.cumsum(steps, axis=1) * 0.01, axis=1)[:, 99::100]
    assert np.cov(walk, rowvar=False) == pytest.approx(drift_covariance(X)[1:, 1:], rel=0.06)


def test_the_prior_is_a_probability():
    assert prior_of_sigma().sum() == pytest.approx(1) and (prior_of_sigma() > 0).all()
    assert prior_of_sigma()[0] == pytest.approx(0.4)


def certain():
    """A bend that is there for sure."""
    free = bend(0 * X)
    return dataclasses.replace(free, p_K=np.append(0.0, free.p_K[1:] / free.p_K[1:].sum()))


def test_a_straight_line_goes_on_as_it_is():
    line = 3 - 0.7 * X
    assert certain().correction([7.0, 2.5], line) == pytest.approx([3 - 0.7 * 7, 3 - 0.7 * 2.5])


def test_an_exact_law_is_not_corrected():
    free = bend(0 * X)
    assert (free.weights([7.0])[0] == 0).all() and 0 < free.p_K[0] < 1
    half = free.correction([7.0], X) / certain().correction([7.0], X)
    assert half == pytest.approx([1 - free.p_K[0]])


def test_optima_on_a_line_speak_for_an_exact_law_and_curved_ones_against():
    straight, curved = bend(0 * X), bend(-0.15 * (X - 2) ** 2)
    assert straight.p_K[0] > 0.4 > 0.05 > curved.p_K[0] and straight.sigma < curved.sigma
    (ahead,) = curved.correction([5.0], -0.15 * (X - 2) ** 2)
    assert ahead == pytest.approx(-0.15 * 9, abs=0.35)


def test_two_sizes_leave_the_prior_as_it_is():
    assert bend([0.0, 0.3], x=X[:2]).p_K == pytest.approx(prior_of_sigma(), abs=1e-6)


def test_draws_spread_with_the_distance_as_the_theory_says():
    k = 5
    made = Bend(X, np.full(5, 1e-4), prior_of_sigma(), np.full(4000, k), seed=1)
    exact = np.zeros((4000, len(X)))
    near, far = made.drawn([5.0, 8.0], exact).std(0)
    assert far > 4 * near > 0
    K = SIGMA_K[k] ** 2 * drift_covariance(np.append(X, 5.0)) + np.diag([1e-4] * 5 + [0])
    line = np.stack([np.ones(6), np.append(X, 5.0)], axis=1)
    smooth = K[5, :5] @ np.linalg.inv(K[:5, :5])
    seen = np.append(smooth, -1.0)  # the error of a smooth curve, were the line known
    assert near**2 >= 0.9 * seen @ K @ seen
    unseen = made.weights(np.array([5.0]))[k, 0]
    d = SIGMA_K[k] ** 2 * drift_covariance(np.append(X, 5.0))
    error = np.append(-unseen, 1.0)
    assert near**2 == pytest.approx(error @ d @ error, rel=0.08) and unseen @ line[:5] == pytest.approx(
        line[5]
    )


def test_a_slope_known_from_elsewhere_is_kept():
    known = dataclasses.replace(bend(0 * X), slope_known=True)
    tilted = 0.1 * X
    assert certain().correction([6.0], tilted) == pytest.approx([0.6], abs=1e-6)
    assert known.correction([6.0], tilted)[0] < 0.5


def test_the_loss_bends_about_its_mean_exponent():
    drawn = loss_bend(X, 0.5, 1000, np.random.default_rng(0))
    assert mean_slope(X, drawn) == pytest.approx(np.zeros(1000), abs=1e-12)
    assert drawn.mean(1) == pytest.approx(np.zeros(1000), abs=1e-12) and drawn.std() > 0


def test_a_law_that_breaks_stays_inside_the_interval():
    held, width = [], []
    for seed in range(6):
        law = Law(beta=0.9, break_width=128, beta_beyond=0.4)
        table = synthetic_sweep(law, widths=(32, 64, 128, 256), noise=0.003, seeds=2, seed=seed)
        row = predict_lr(transfer_report(table, bootstraps=100), width=512).iloc[0]
        held.append(row.log2_lr_low <= law.best_log2_lr(512) <= row.log2_lr_high)
        width.append(row.bend)
    assert np.mean(held) >= 5 / 6 and 0.2 < np.median(width) < 2


def test_the_report_says_what_a_bend_is_worth_and_what_settles_it():
    table = synthetic_sweep(Law(), widths=(32, 64, 128, 256), noise=0.003)
    report = transfer_report(table, bootstraps=100)
    assert "at width 512" in report.notes[-1] and "settle" in report.notes[-1]
    assert report.laws.drift[0] > 0
    more = pd.concat([table, synthetic_sweep(Law(), widths=(512,), noise=0.003, seed=1)])
    known = predict_lr(transfer_report(more, bootstraps=100), width=512).iloc[0]
    open_ = predict_lr(report, width=512).iloc[0]
    assert known.bend < 0.5 * open_.bend and known.log2_lr_high - known.log2_lr_low < 1
