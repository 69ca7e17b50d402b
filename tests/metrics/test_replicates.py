"""Replicates of a sweep."""

import numpy as np
import pytest
from known_laws import fitted, shared_draws

from hpt.metrics.noise import Noise
from hpt.metrics.replicates import replicate


def test_replicates_scatter_about_the_estimates_as_much_as_the_noise_is_large():
    fit = fitted(noise=1e-4)
    spreads = []
    for sd in (0.002, 0.004):
        drawn = replicate(fit, Noise(sd, 50.0), shared_draws(fit), np.random.default_rng(1))
        assert np.median(drawn.loss_BxW, axis=0) == pytest.approx(fit.loss_W, abs=sd)
        assert np.median(drawn.theta_Bx7, axis=0) == pytest.approx(fit.law.theta_Bx7[0], abs=0.3)
        assert drawn.method == "parametric" and drawn.inflation == 1 and not drawn.kinked
        spreads.append(drawn.loss_BxW.std(0))
    assert spreads[1] / spreads[0] == pytest.approx(np.full(4, 2.0), rel=0.1)


def test_one_width_has_replicates_of_its_well_and_none_of_a_law():
    fit = fitted(widths=(64,))
    drawn = replicate(fit, Noise(0.01, 5.0), shared_draws(fit, B=50), np.random.default_rng(0))
    assert np.isfinite(drawn.h_BxW).any() and np.isnan(drawn.theta_Bx7).all()
    assert np.isnan(drawn.E_B).all() and not drawn.at_bound_B.any()
    unknown = replicate(fit, Noise(np.nan, 0.0), shared_draws(fit), np.random.default_rng(0))
    low, high = fit.points.bracket_Wx2[0]
    assert unknown.method == "grid" and np.isnan(unknown.loss_BxW).all()
    assert low <= unknown.log2_lr_BxW.min() < low + 0.1 < high - 0.1 < unknown.log2_lr_BxW.max() <= high
