"""Replicates of a sweep."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import TableError
from hpt.metrics.basin import gather
from hpt.metrics.group import fit_group
from hpt.metrics.noise import CommonNoise, Noise
from hpt.metrics.replicates import SharedDraws, at_known_noise, draw_noise, replicate, seeds_to_resample

WIDTHS = (32, 64, 128, 256)


def fitted(**changes):
    settings = {"widths": WIDTHS, "noise": 0.01, "seeds": 2}
    table = synthetic_sweep(Law(shape="linex"), **settings | changes)
    return fit_group((), gather(table[np.isfinite(table.loss)], "width"))


def shared(fit, B=400, common=None, seeds_W=None, seed=0):
    shape = B, len(fit.points.scale_W), 1 + int(fit.points.seed_WxP.max())
    rng = np.random.default_rng(seed)
    return SharedDraws.draw(common or CommonNoise.none(), shape, rng, seeds_W)


def test_replicates_scatter_about_the_estimates_as_much_as_the_noise_is_large():
    fit = fitted(noise=1e-4)
    spreads = []
    for sd in (0.002, 0.004):
        drawn = replicate(fit, Noise(sd, 50.0), shared(fit), np.random.default_rng(1))
        assert np.median(drawn.loss_BxW, axis=0) == pytest.approx(fit.loss_W, abs=sd)
        assert np.median(drawn.theta_Bx7, axis=0) == pytest.approx(fit.law.theta_Bx7[0], abs=0.3)
        assert drawn.method == "parametric" and drawn.inflation == 1 and not drawn.kinked
        spreads.append(drawn.loss_BxW.std(0))
    assert spreads[1] / spreads[0] == pytest.approx(np.full(len(WIDTHS), 2.0), rel=0.1)


def test_one_width_has_replicates_of_its_well_and_none_of_a_law():
    fit = fitted(widths=(64,))
    drawn = replicate(fit, Noise(0.01, 5.0), shared(fit, B=50), np.random.default_rng(0))
    assert np.isfinite(drawn.h_BxW).any() and np.isnan(drawn.theta_Bx7).all()
    assert np.isnan(drawn.E_B).all() and not drawn.at_bound_B.any()
    unknown = replicate(fit, Noise(np.nan, 0.0), shared(fit), np.random.default_rng(0))
    low, high = fit.points.bracket_Wx2[0]
    assert unknown.method == "grid" and np.isnan(unknown.loss_BxW).all()
    assert low <= unknown.log2_lr_BxW.min() < low + 0.1 < high - 0.1 < unknown.log2_lr_BxW.max() <= high


def test_noise_that_a_seed_shares_is_alike_at_all_its_learning_rates():
    fit = fitted()
    points = fit.points
    draws = shared(fit, common=CommonNoise(np.array([0.1]), np.array([1.0])))
    noise_BxWxP = draw_noise(Noise(1e-9, 50.0), points, draws, np.random.default_rng(0)).noise_BxWxP
    first = points.inside_WxP[0] & (points.seed_WxP[0] == 0)
    assert np.ptp(noise_BxWxP[:, 0, first], axis=1).max() < 1e-7
    assert noise_BxWxP[:, 0, first].std() == pytest.approx(0.1, rel=0.15)


def test_resampled_seeds_keep_the_size_of_their_deviations():
    fit = fitted(seeds=6)
    points = fit.points
    draws = shared(fit, B=4000, seeds_W=[1e6] * len(WIDTHS))
    drawn = draw_noise(Noise(1.0, 50.0), points, draws, np.random.default_rng(0))
    assert drawn.method == "seeds" and drawn.square_BxF.shape == (4000, len(WIDTHS))
    inside = points.inside_WxP
    deviation = points.loss_WxP - points.means(points.rate_WxP, points.loss_WxP)
    expected = np.sqrt(6 / 5) * np.abs(deviation)[inside]
    assert drawn.noise_BxWxP.std(0)[inside] == pytest.approx(expected, rel=0.08)


def test_how_many_seeds_each_width_has():
    many, few = fitted(seeds=6).points, fitted(seeds=2).points
    scales = np.array([*WIDTHS, 512.0])
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
