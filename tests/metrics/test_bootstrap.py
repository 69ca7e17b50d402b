"""Noise drawn afresh: parametric, shared, and of seeds resampled."""

import numpy as np
import pytest
from known_laws import WIDTHS, fitted, shared_draws

from hpt.errors import TableError
from hpt.metrics.bootstrap import SharedDraws, at_known_noise, draw_noise, seeds_to_resample
from hpt.metrics.noise import GROWTH_K, CommonNoise, Noise


def test_noise_that_a_seed_shares_is_alike_at_all_its_learning_rates():
    fit = fitted()
    points = fit.points
    draws = shared_draws(fit, common=CommonNoise(np.array([0.1]), np.array([1.0])))
    noise_BxWxP = draw_noise(Noise(1e-9, 50.0), points, draws, np.random.default_rng(0)).noise_BxWxP
    first = points.inside_WxP[0] & (points.seed_WxP[0] == 0)
    assert np.ptp(noise_BxWxP[:, 0, first], axis=1).max() < 1e-7
    assert noise_BxWxP[:, 0, first].std() == pytest.approx(0.1, rel=0.15)


def test_resampled_seeds_keep_the_size_of_their_deviations():
    fit = fitted(seeds=6)
    points = fit.points
    draws = shared_draws(fit, B=4000, seeds_W=[1e6] * 4)
    drawn = draw_noise(Noise(1.0, 50.0), points, draws, np.random.default_rng(0))
    assert drawn.method == "seeds" and drawn.square_BxF.shape == (4000, 4)
    inside = points.inside_WxP
    deviation = points.loss_WxP - points.means(points.rate_WxP, points.loss_WxP)
    expected = np.sqrt(6 / 5) * np.abs(deviation)[inside]
    assert drawn.noise_BxWxP.std(0)[inside] == pytest.approx(expected, rel=0.08)


def test_how_many_seeds_each_width_has():
    many, few = fitted(seeds=6).points, fitted(seeds=2).points
    scales = np.array(WIDTHS)
    assert seeds_to_resample("auto", [many], scales, True).tolist() == [6, 6, 6, 6, 2]
    assert seeds_to_resample("seeds", [many, few], scales, True).tolist() == [2] * 5
    assert seeds_to_resample("auto", [few], scales, True) is None
    assert seeds_to_resample("auto", [many], scales, False) is None
    assert seeds_to_resample("auto", [], scales, True) is None
    assert seeds_to_resample("parametric", [many], scales, True) is None
    with pytest.raises(TableError, match="no column 'seed'"):
        seeds_to_resample("seeds", [many], scales, False)


def test_the_drawn_size_of_the_noise_cancels_in_a_ratio():
    rng = np.random.default_rng(0)
    square_B = rng.chisquare(5, 1000) / 5
    size_B = 0.3 * np.sqrt(square_B)
    assert at_known_noise(size_B, square_B[:, None]) == pytest.approx(np.full(1000, 0.3))
    for unchanged in (np.zeros(3), np.array([1.0, np.nan, 2.0])):
        assert at_known_noise(unchanged, np.ones((3, 1))) is unchanged


def test_five_seeds_resampled_give_students_t():
    rng = np.random.default_rng(0)
    draws = SharedDraws.draw(CommonNoise.none(), (20_000, 1, 5), rng, [5])
    deviation_S = rng.standard_normal(5)
    deviation_S -= deviation_S.mean()
    mean_B = (draws.weight_BxWxS[:, 0] * deviation_S * np.sqrt(5 / 4)).mean(1)
    error = deviation_S.std(ddof=1) / np.sqrt(5)
    assert np.quantile(mean_B / error, [0.025, 0.975]) == pytest.approx([-2.776, 2.776], rel=0.06)


def test_drawn_noise_grows_with_size_as_told():
    fit = fitted()
    noise = Noise(0.01, 1e6, growth_p_K=(GROWTH_K == 0.7) * 1.0)
    drawn = draw_noise(noise, fit.points, shared_draws(fit, B=2000), np.random.default_rng(0))
    sd_W = drawn.noise_BxWxP.std((0, 2))
    assert np.diff(np.log(sd_W)) == pytest.approx(np.full(3, 0.7), abs=0.05)
    assert np.mean(sd_W**2) == pytest.approx(1e-4, rel=0.05)
