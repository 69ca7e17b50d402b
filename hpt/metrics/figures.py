"""The figures of transfer, each in one place, for the estimate of a sweep (B = 1) and for replicates
(B) alike.

α, β, γ_log, γ, κ, L∞ and R(∞) are read off a law's parameters `theta` (…, 7), whose order
:mod:`hpt.metrics.law` names; E and E_extrap need the runs as well. All follow Kalra & Barkeshli
2026 (arXiv 2605.21486); the norm of E and the whole of E_extrap are ours.

Letters: B replicates, W widths, P runs of a width, S trial skews.
"""

from __future__ import annotations

import numpy as np

from hpt.metrics import law
from hpt.metrics.basin import LN2, Points
from hpt.metrics.wells import WellFit


def alpha(theta):
    """α of the reducible loss A·n^(−α)."""
    return theta[..., law.ALPHA]


def beta(theta):
    """β of the optimum, η* ∝ n^(−β)."""
    return theta[..., law.BETA]


def gamma_log(theta):
    """γ_log of the curvature in ln η, h ∝ n^(γ_log)."""
    return theta[..., law.GAMMA_LOG]


def gamma(theta):
    """γ = γ_log + 2β, of the curvature in η, ∂²L/∂η² ∝ n^γ."""
    return gamma_log(theta) + 2 * beta(theta)


def kappa(theta):
    """κ = α − 2β + γ = α + γ_log. Below 0 a mistake of some octaves costs less, relative to the
    reducible loss, as the model grows."""
    return alpha(theta) + gamma_log(theta)


def L_inf(theta):
    """L∞, nats: the loss at infinite width and its optimum."""
    return theta[..., law.L_INF]


LAW_FIGURES = {f.__name__: f for f in (alpha, beta, gamma_log, gamma, kappa)}


def R_inf(theta, theta_reference):
    """R(∞) = L∞ − L∞ of the reference, nats."""
    return L_inf(theta) - L_inf(theta_reference)


def R(loss, loss_reference):
    """R(n) = L*(n) − L*(n) of the reference, nats; it needs no extrapolation."""
    return loss - loss_reference


def E(fit: law.LawFit, points: Points, loss_BxWxP):
    """E (B,), nats: the root-mean-square residual of the joint fit over the runs in the basins.

    Kalra & Barkeshli publish no norm; the root mean square is ours.
    """
    inside_WxP = points.inside_WxP
    residual_BxWxP = fit.losses(points) - loss_BxWxP
    return np.sqrt((residual_BxWxP**2 * inside_WxP).sum((1, 2)) / inside_WxP.sum())


def E_extrap(points: Points, loss_BxWxP, skew_S, skew_cost_S=0.0):
    """The two errors at the largest width of a law fitted to the others; both are ours.

    Parameters
    ----------
    skew_S, skew_cost_S: trial skews and their cost (nats²), as in
        :class:`hpt.metrics.wells.WellFit`; chosen without the largest width.

    Returns
    -------
    E_extrap (B,), E of the runs there in nats, nan below four widths; the octave error (B,), log2 η*
    predicted minus measured there, nan below three.
    """
    B, W = loss_BxWxP.shape[:2]
    nothing_B = np.full(B, np.nan)
    if W < 3:
        return nothing_B, nothing_B
    wells = WellFit(points, skew_S, skew_cost_S)(loss_BxWxP, np.arange(W) < W - 1)
    others = points.take(slice(-1))
    largest = points.take(slice(-1, None))
    fit = law.fit_laws(others, wells.take(slice(-1)))
    u_Bx1, _, _ = fit.wells_at(largest)
    octaves_B = (u_Bx1[:, 0] - wells.u_BxW[:, -1]) / LN2
    if W < 4:
        return nothing_B, octaves_B
    return E(fit, largest, loss_BxWxP[:, -1:]), octaves_B
