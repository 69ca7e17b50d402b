"""The skewed well: its formula, and how well it finds optima of its own kind and of others."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import basins
from hpt.metrics.wells import coefficients, phi2, well_loss, well_of


@pytest.mark.parametrize("s", [-0.8, 0.0, 1e-7, 0.3, 2.0])
def test_wells_and_their_linear_coefficients_are_inverse(s):
    u, loss, h = np.array([-1.2, 0.0, 0.7]), np.array([3.0, 2.0, 1.0]), np.array([0.1, 0.3, 2.0])
    c = coefficients(u, loss, h, s)
    assert np.stack(well_of(c, s)) == pytest.approx(np.stack([u, loss, h]), abs=1e-9)
    v = np.linspace(-2, 2, 9)[:, None]
    direct = loss + h * (v - u) ** 2 * phi2(s * (v - u))
    assert c[:, 0] + c[:, 1] * v + c[:, 2] * v**2 * phi2(s * v) == pytest.approx(direct, abs=1e-9)


@pytest.mark.parametrize(("shape", "skew"), [("parabola", 0.0), ("linex", 0.6), ("linex", 1.2)])
def test_skewed_wells_are_recovered_exactly_without_noise(shape, skew):
    law = Law(shape=shape, skew=skew)
    found = basins(synthetic_sweep(law, noise=0.0), bootstraps=20)
    assert found.log2_lr.to_numpy() == pytest.approx(law.best_log2_lr(found.width), abs=1e-5)
    assert found.loss.to_numpy() == pytest.approx(law.best_loss(found.width), abs=1e-6)
    assert found.curvature.to_numpy() == pytest.approx(law.basin_curvature(found.width), rel=1e-4)


def test_other_asymmetric_wells_are_nearly_unbiased():
    law = Law(shape="bent", skew=0.8)
    found = basins(synthetic_sweep(law, noise=0.0), bootstraps=20)
    assert np.abs(found.log2_lr - law.best_log2_lr(found.width)).max() < 0.06


def test_the_median_error_is_below_a_tenth_of_an_octave():
    errors = []
    for seed in range(12):
        law = Law(log2_lr=-7 + 0.08 * seed)
        found = basins(synthetic_sweep(law, count=7, noise=0.01, seed=seed), bootstraps=20)
        errors += list(np.abs(found.log2_lr - law.best_log2_lr(found.width)))
    assert np.median(errors) < 0.1


def test_the_curve_of_a_well_is_lowest_at_its_optimum_and_curves_there_by_h():
    u = np.linspace(-3, 3, 7)
    assert well_loss(u, 2.0, 0.4, 0.0) == pytest.approx(2 + 0.2 * u**2)
    assert well_loss(u, 2.0, 0.4, 0.8) == pytest.approx(2 + 0.4 * (np.exp(0.8 * u) - 1 - 0.8 * u) / 0.64)
    assert well_loss(0.0, np.arange(3.0), 1.0, 0.5).tolist() == [0, 1, 2]
    assert np.isfinite(well_loss(1e3, 2.0, 0.4, 1.0))
