"""Noise: of single runs, and what runs of one seed share."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from known_laws import LAWS, WIDTHS

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.basin import gather
from hpt.metrics.group import fit_group
from hpt.metrics.noise import (
    GROWTH_K,
    CommonNoise,
    common_noise,
    growth_of,
    noise_of,
    scatter_of,
    seed_variance,
)
from hpt.metrics.transfer import transfer_report


def fitted(**changes):
    settings = {"widths": WIDTHS, "noise": 0.01, "seeds": 4}
    table = synthetic_sweep(Law(shape="linex"), **settings | changes)
    return fit_group((), gather(table[np.isfinite(table.loss)], "width"))


def test_the_noise_of_a_run_is_found():
    (noise,) = noise_of([fitted()], shared=False)
    assert noise.sd == pytest.approx(0.01, rel=0.15) and noise.df > 60 and noise.raised == 1
    (own,) = noise_of([fitted(common=0.5)], shared=True)
    assert own.sd == pytest.approx(0.01 * 0.5**0.5, rel=0.15)


def test_degrees_of_freedom_add_up():
    fit = fitted(seeds=3)
    total, own = scatter_of(fit, shared=False), scatter_of(fit, shared=True)
    assert total.own_df == total.misfit_df + total.repeats_df == fit.basins.spare
    assert total.own_df - own.own_df == 2 * len(WIDTHS)
    assert own.own < total.own and own.misfit == total.misfit < total.own


def test_a_group_with_few_runs_leans_on_the_others():
    scarce, rich = fitted(seeds=1, widths=(32,), count=3), fitted()
    (alone,) = noise_of([scarce], shared=False)
    assert np.isnan(alone.sd)
    leaning, own = noise_of([scarce, rich], shared=False)
    assert leaning.sd == pytest.approx(own.sd) and leaning.df < own.df


def test_seeds_that_differ_alike_vary_between_and_not_within():
    fit = fitted()
    points = fit.points
    shift_S = np.array([0.0, 0.1, 0.2, 0.3])
    points.loss_WxP[:] = shift_S[points.seed_WxP]
    flat = dataclasses.replace(fit, loss_W=np.full(len(WIDTHS), 0.15), h_W=np.zeros(len(WIDTHS)))
    between, df, runs = seed_variance([flat])
    rates = points.rates_W.sum()
    assert df == 3 * len(WIDTHS) and runs == pytest.approx(rates / len(WIDTHS))
    assert between == pytest.approx(rates * ((shift_S - 0.15) ** 2).sum())
    assert seed_variance([flat, flat])[1:] == (df, pytest.approx(2 * runs))
    assert seed_variance([fitted(seeds=1)]) == (0, 0, 0)


def test_no_noise_is_shared_where_none_is_known():
    none = common_noise([SimpleNamespace()], [np.nan], paired=True)
    assert none.sd == CommonNoise.none().sd == 0


def test_shared_noise_shows_in_seeds_and_in_losses_that_stray_from_their_law():
    def share(**options):
        laws = transfer_report(
            synthetic_sweep(LAWS, **{"widths": WIDTHS, "noise": 0.01} | options), bootstraps=20
        ).laws
        return (laws.common_noise**2 / laws.noise**2).mean()

    assert share(seeds=4, common=0.0) < 0.2 < 0.4 < share(seeds=4, common=0.6)
    wide = {"seeds": 1, "widths": [32 * 2**i for i in range(9)]}
    assert share(common=0.0, **wide) < share(common=0.8, **wide)


def test_noise_that_grows_with_size_is_told_from_noise_that_does_not():
    def growth(noise):
        sweep = synthetic_sweep(Law(shape="linex"), widths=(32, 64, 128, 256, 512), noise=noise, seeds=4)
        return growth_of(fit_group((), gather(sweep[np.isfinite(sweep.loss)], "width")))

    assert growth(0.01)[GROWTH_K == 0] > 0.5
    growing = growth(0.01 * 2.0 ** np.arange(-2, 3))
    assert growing @ GROWTH_K == pytest.approx(np.log(2), abs=0.15) and growing[GROWTH_K == 0] < 0.01
    assert growth(0.0).sum() == pytest.approx(1.0)
