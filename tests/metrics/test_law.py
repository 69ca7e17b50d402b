"""The joint law: exact on wells that obey it, its derivatives, and its bounds."""

import dataclasses

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics import law
from hpt.metrics.basin import gather
from hpt.metrics.law import ALPHA, BETA, GAMMA_LOG, L_INF, A, LawFit, _Problem, fit_laws
from hpt.metrics.wells import WellFit

LAW = Law(shape="linex", skew=0.6)


def problem(law=LAW, noise=0.0, **changes):
    table = synthetic_sweep(law, noise=noise, **changes)
    points = gather(table[np.isfinite(table.loss)], "width")
    return points, WellFit(points, law.skew)(points.loss_WxP[None])


def test_a_sweep_that_obeys_a_law_gives_it_back():
    points, wells = problem()
    fit = fit_laws(points, wells)
    truth = {L_INF: LAW.L_inf, ALPHA: LAW.alpha, BETA: LAW.beta, GAMMA_LOG: LAW.gamma_log}
    for parameter, value in truth.items():
        assert fit.theta_Bx7[0, parameter] == pytest.approx(value, abs=1e-6)
    assert fit.theta_Bx7[0, A] == pytest.approx(LAW.A * fit.scale0**-LAW.alpha, abs=1e-6)
    assert fit.cost_B == pytest.approx([0.0], abs=1e-12) and not fit.at_bound()[0]
    assert fit.log2_lr(4096).item() == pytest.approx(float(LAW.best_log2_lr(4096)), abs=1e-6)
    assert fit.loss(4096).item() == pytest.approx(LAW.best_loss(4096), rel=1e-5)
    assert fit.curvature(4096).item() == pytest.approx(LAW.basin_curvature(4096), rel=1e-5)
    inside = points.inside_WxP
    assert fit.losses(points)[0][inside] == pytest.approx(points.loss_WxP[inside], abs=1e-6)


def test_replicates_in_a_batch_are_fitted_as_one_by_one():
    points, _ = problem()
    rng = np.random.default_rng(0)
    loss_BxWxP = points.loss_WxP + 0.01 * rng.standard_normal((5, *points.loss_WxP.shape))
    well_fit = WellFit(points, LAW.skew)
    batch = fit_laws(points, well_fit(loss_BxWxP))
    for b in range(5):
        alone = fit_laws(points, well_fit(loss_BxWxP[b : b + 1]))
        assert alone.theta_Bx7[0] == pytest.approx(batch.theta_Bx7[b], rel=1e-6)


def test_the_jacobian_is_the_derivative_of_the_residual():
    least_squares = _Problem(*problem(), scale0=100.0)
    theta = np.array([[2.0, 1.0, 0.4, -4.0, 0.6, -1.5, -0.1]])
    c, loss = least_squares.coefficients(theta)
    J = least_squares.jacobian(theta, c, loss)[0]
    for parameter in range(7):
        step = 1e-5 * np.eye(7)[parameter]
        ends = [least_squares.coefficients(theta + sign * step)[0] for sign in (1, -1)]
        high, low = map(least_squares.residual, ends)
        assert J[:, parameter] == pytest.approx((high - low)[0] / 2e-5, rel=1e-4, abs=1e-7)


def test_two_widths_fix_straight_lines_alone():
    fit = fit_laws(*problem(widths=(32, 256)))
    assert np.isnan(fit.theta_Bx7[0, [L_INF, A, ALPHA]]).all()
    assert fit.theta_Bx7[0, BETA] == pytest.approx(LAW.beta, abs=1e-6)


@pytest.mark.parametrize(("theta", "bound"), [((2.0, 1.0, 0.5), False), ((0.0, 1.0, 0.5), True)])
def test_parameters_at_a_bound(theta, bound):
    fit = LawFit(np.array([[*theta, -5.0, 0.5, -1.0, 0.0]]), np.zeros(1), np.zeros(1), 64.0)
    assert fit.at_bound().tolist() == [bound]


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_floor_is_at_its_bound_whenever_the_fit_ends(scale, monkeypatch):
    """Whatever the size of the losses: replicates of a law without a floor, nearly without, and with one."""
    rng = np.random.default_rng(0)
    for L_inf, least, most in ((0.0, 0.3, 0.7), (2e-4, 0.3, 0.7), (1.0, 0.0, 0.025)):
        points, _ = problem(dataclasses.replace(LAW, L_inf=L_inf))
        noise_BxWxP = 0.005 * rng.standard_normal((200, *points.loss_WxP.shape))
        wells = WellFit(points, LAW.skew)(scale * (points.loss_WxP + noise_BxWxP))
        found = fit_laws(points, wells).at_bound()
        assert least <= found.mean() <= most
        with monkeypatch.context() as longer:
            longer.setattr(law, "STEPS", 1000)
            longer.setattr(law, "LEAST_GAIN", 1e-12)
            assert fit_laws(points, wells).at_bound().tolist() == found.tolist()
