"""Each figure against its formula, for one law and for many at once."""

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics import figures
from hpt.metrics.basin import gather
from hpt.metrics.group import fit_group
from hpt.metrics.table import read_table

LAW = Law(shape="linex", skew=0.5, alpha=0.42, beta=0.8, gamma=1.35)


def fitted(noise=0.0, **changes):
    sweep = read_table(synthetic_sweep(LAW, **{"noise": noise} | changes), scale="width", by=None)
    (key, rows), *_ = sweep.groups()
    return fit_group(key, gather(rows, "width"))


def test_exponents_are_those_of_the_law():
    theta = fitted().law.theta_Bx7
    for name, figure in figures.LAW_FIGURES.items():
        assert figure(theta) == pytest.approx([getattr(LAW, name)], abs=1e-4), name
    assert figures.L_inf(theta) == pytest.approx([LAW.L_inf], abs=1e-4)


def test_kappa_is_alpha_minus_two_beta_plus_gamma():
    theta = np.random.default_rng(0).standard_normal((5, 7))
    expected = figures.alpha(theta) - 2 * figures.beta(theta) + figures.gamma(theta)
    assert figures.kappa(theta) == pytest.approx(expected)
    assert figures.kappa(theta)[3] == figures.kappa(theta[3])
    assert figures.R_inf(theta, theta[0])[0] == 0 and figures.R(3.0, 2.5) == 0.5


def test_E_is_the_root_mean_square_of_what_is_added_to_runs_that_obey_the_law():
    fit = fitted()
    points = fit.points
    added = np.random.default_rng(1).standard_normal((2, *points.loss_WxP.shape))
    inside = points.weight_WxP > 0
    expected = [np.sqrt(np.mean(a[inside] ** 2)) for a in added]
    assert figures.E(fit.law, points, points.loss_WxP + added) == pytest.approx(expected, rel=1e-4)


def test_the_errors_at_the_largest_width_are_what_is_done_to_it():
    fit = fitted()
    points, loss = fit.points, fit.points.loss_WxP[None].copy()
    loss[:, -1] += 0.3
    E_extrap, octaves = figures.E_extrap(points, loss, fit.skew)
    assert E_extrap == pytest.approx([0.3], rel=1e-3) and octaves == pytest.approx([0.0], abs=1e-3)
    points.origin_W[-1] += 1.5
    _, octaves = figures.E_extrap(points, points.loss_WxP[None], fit.skew)
    assert octaves == pytest.approx([-1.5], abs=1e-3)


@pytest.mark.parametrize(("widths", "known"), [(2, (False, False)), (3, (False, True))])
def test_few_widths_leave_the_extrapolation_open(widths, known):
    fit = fitted(widths=(32, 64, 128)[:widths])
    errors = figures.E_extrap(fit.points, fit.points.loss_WxP[None], fit.skew)
    assert tuple(bool(np.isfinite(e[0])) for e in errors) == known
