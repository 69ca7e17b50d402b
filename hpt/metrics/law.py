"""The joint fit of one group: one law of width for L*, η* and curvature, by least squares over all
runs in the basins.

L(n, η) = L∞ + A·m^(−α) + h0·m^(γ_log)·f_s(ln η − ln η0 + β·ln m), with m = n/n0 and n0 the
geometric mean width (the fit of Kalra & Barkeshli 2026, arXiv 2605.21486, with the skewed well of
:mod:`hpt.metrics.basin` in the place of their parabola, which is s = 0). Since a well is linear in
three numbers given s, the runs of a width enter through three numbers too, and thousands of
bootstrap replicates are solved as one batch by a projected Levenberg–Marquardt, started from the
best of a grid of α.

Letters: B replicates, W widths, P runs of a width, K trial α; z is ln m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy import arange, array, clip, exp, inf, isfinite, log, maximum, nan, ndarray, stack, where
from numpy.linalg import solve

from hpt.metrics.basin import LN2, Points, Wells, coefficients, losses_at

L_INF, A, ALPHA, LN_LR, BETA, LN_H, GAMMA_LOG = range(7)
ALPHA_RANGE = (0.02, 5.0)
LOWEST = array([0.0, 0.0, ALPHA_RANGE[0], -inf, -10.0, -inf, -10.0])
HIGHEST = array([inf, inf, ALPHA_RANGE[1], inf, 10.0, inf, 10.0])
AT_BOUND = 1e-6
STEPS = 60


@dataclass(frozen=True, eq=False)
class LawFit:
    """Laws of B replicates.

    Attributes
    ----------
    theta_Bx7: L∞ (nats), A (nats, reducible loss at n0), α, ln η0, β, ln h0, γ_log.
    cost_B: sum of squares beyond that of one well a width, nats².
    skew_B: s.
    scale0: n0.
    """

    theta_Bx7: ndarray
    cost_B: ndarray | None
    skew_B: ndarray
    scale0: float

    def wells(self, scale):
        """ln η*, L* (nats) and h at `scale` (W,), shape (B, W) each."""
        z_W = log(np.asarray(scale, float) / self.scale0)
        L_inf, a, alpha, ln_lr0, beta, ln_h0, gamma_log = self.theta_Bx7.T[..., None]
        loss = L_inf + a * exp(-alpha * z_W)
        h = exp(clip(ln_h0 + gamma_log * z_W, -40, 40))
        return ln_lr0 - beta * z_W, loss, h

    def wells_at(self, points: Points):
        """As :meth:`wells` at the widths of `points`, with ln η* from each width's origin."""
        ln_lr, loss, h = self.wells(points.scale_W)
        return ln_lr - points.origin_W * LN2, loss, h

    def losses(self, points: Points) -> ndarray:
        """The law's loss at every run, nats, (B, W, P)."""
        return losses_at(points, *self.wells_at(points), self.skew_B[:, None, None])

    def at_bound(self) -> ndarray:
        """(B,) bool: L∞ or α at a bound, so that neither is determined."""
        L_inf, a, alpha = self.theta_Bx7.T[:3]
        tiny = AT_BOUND * maximum(np.abs(L_inf) + np.abs(a), 1e-12)
        low, high = ALPHA_RANGE
        alpha_at_bound = (alpha <= low * (1 + 1e-6)) | (alpha >= high * (1 - 1e-6))
        return (L_inf <= tiny) | (a <= tiny) | alpha_at_bound

    def slope_at_bound(self) -> ndarray:
        """(B,) bool: β or γ_log at a bound, so that nothing that depends on it is determined."""
        slopes = self.theta_Bx7[:, [BETA, GAMMA_LOG]]
        ends = HIGHEST[[BETA, GAMMA_LOG]]
        return (np.abs(slopes) >= ends * (1 - 1e-6)).any(1)


def fit_laws(points: Points, wells: Wells, around=None, edges: int = 0) -> LawFit:
    """Fit the law to the widths of `points` in every replicate of `wells`.

    Two widths fix β and γ_log only; L∞, A and α are then nan.

    Parameters
    ----------
    around: (7,) a second start beside the one found from the wells, for replicates whose wells are
        no start.
    edges: how many of the widths, the last ones, have runs on one side of their optimum alone: no
        wells to start from.
    """
    whole = slice(len(points.scale_W) - edges)
    part = points.take(whole)
    scale0 = float(exp(log(part.scale_W).mean()))
    theta = _start(part, wells.take(whole), scale0)
    if len(part.scale_W) < 3:
        return LawFit(theta, np.zeros(len(theta)), wells.skew_B, scale0)
    if around is not None:
        usable_B = isfinite(theta).all(1)
        theta = where(usable_B[:, None], theta, around)
    anywhere = array([1.0, 0.1, 0.5, (part.origin_W * LN2).mean(), 0.0, -2.0, 0.0])
    theta = where(isfinite(theta), theta, anywhere)
    theta, cost_B = _levenberg_marquardt(theta, _Problem(points, wells, scale0))
    return LawFit(theta, cost_B, wells.skew_B, scale0)


def refit(law: LawFit, points: Points, wells: Wells) -> LawFit:
    """The laws fitted to other wells of the same widths, started from what they are."""
    problem = _Problem(points, wells, law.scale0)
    theta, cost_B = _levenberg_marquardt(law.theta_Bx7.copy(), problem)
    return replace(law, theta_Bx7=theta, cost_B=cost_B)


def _start(points, wells, scale0):
    """Laws through the wells themselves: straight lines in logs, and for L* the best of a grid of
    α."""
    z_W = log(points.scale_W / scale0)
    ln_lr = wells.u_BxW + points.origin_W * LN2
    ln_h = log(wells.h_BxW)
    spread = (z_W**2).sum()
    theta = np.full((len(ln_lr), 7), nan)
    theta[:, LN_LR] = ln_lr.mean(1)
    theta[:, BETA] = -(ln_lr @ z_W) / spread
    theta[:, LN_H] = ln_h.mean(1)
    theta[:, GAMMA_LOG] = (ln_h @ z_W) / spread
    if len(z_W) >= 3:
        theta[:, [L_INF, A, ALPHA]] = _start_of_loss(z_W, wells.loss_BxW)
    return theta


def _start_of_loss(z_W, loss_BxW):
    """L∞, A and α (B, 3) by least squares, L∞ and A ≥ 0."""
    alpha_K = np.geomspace(0.03, 4.0, 40)
    power_KxW = exp(-alpha_K[:, None] * z_W)
    mean_K = power_KxW.mean(1)
    centred_KxW = power_KxW - mean_K[:, None]
    mean_loss = loss_BxW.mean(1, keepdims=True)
    a = (loss_BxW @ centred_KxW.T) / (centred_KxW**2).sum(1)
    L_inf = mean_loss - a * mean_K
    a_without_floor = maximum((loss_BxW @ power_KxW.T) / (power_KxW**2).sum(1), 0.0)
    a = where(L_inf < 0, a_without_floor, a)
    L_inf = where(a < 0, maximum(mean_loss, 0), maximum(L_inf, 0.0))
    a = maximum(a, 0.0)
    residual_BxKxW = loss_BxW[:, None, :] - L_inf[..., None] - a[..., None] * power_KxW
    sse_BxK = (residual_BxKxW**2).sum(-1)
    best_B = np.argmin(where(isfinite(sse_BxK), sse_BxK, inf), axis=1)
    each_B = arange(len(best_B))
    return stack([L_inf[each_B, best_B], a[each_B, best_B], alpha_K[best_B]], axis=1)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Least squares |R·c(theta) − z|² of B replicates over the widths of `points`."""

    points: Points
    wells: Wells
    scale0: float

    def coefficients(self, theta):
        """c(theta), (B, W, 3), and L* (B, W) of the laws."""
        law = LawFit(theta, None, self.wells.skew_B, self.scale0)
        u, loss, h = law.wells_at(self.points)
        return coefficients(u, loss, h, law.skew_B[:, None]), loss

    def residual(self, c):
        """R·c − z, (B, 3W)."""
        fitted_BxWx3 = (self.wells.R_BxWx3x3 @ c[..., None])[..., 0]
        return (fitted_BxWx3 - self.wells.z_BxWx3).reshape(len(c), -1)

    def cost(self, theta):
        c, _ = self.coefficients(theta)
        return (self.residual(c) ** 2).sum(1)

    def jacobian(self, theta, c, loss):
        """Derivative of the residual by theta, (B, 3W, 7)."""
        z_W = log(self.points.scale_W / self.scale0)
        c0, c1, c2 = np.moveaxis(c, -1, 0)
        power = exp(-theta[:, None, ALPHA] * z_W)
        by_ln_lr = stack([-c1, -c2, -self.wells.skew_B[:, None] * c2], -1)
        by_ln_h = stack([c0 - loss, c1, c2], -1)
        slope = np.zeros((*c.shape, 7))
        slope[..., 0, L_INF] = 1
        slope[..., 0, A] = power
        slope[..., 0, ALPHA] = -power * (theta[:, None, A] * z_W)
        slope[..., LN_LR] = by_ln_lr
        slope[..., BETA] = -by_ln_lr * z_W[:, None]
        slope[..., LN_H] = by_ln_h
        slope[..., GAMMA_LOG] = by_ln_h * z_W[:, None]
        return (self.wells.R_BxWx3x3 @ slope).reshape(len(c), -1, 7)

    def step(self, theta, damping_B):
        """A damped Gauss–Newton step within the bounds; what pushes against one is held."""
        c, loss = self.coefficients(theta)
        J = self.jacobian(theta, c, loss)
        gradient = np.einsum("bri,br->bi", J, self.residual(c))
        H = np.swapaxes(J, -1, -2) @ J
        held = ((theta <= LOWEST) & (gradient > 0)) | ((theta >= HIGHEST) & (gradient < 0))
        gradient = where(held, 0.0, gradient)
        H = where(held[:, :, None] | held[:, None, :], 0.0, H)
        diagonal = np.einsum("bii->bi", H)
        added = damping_B[:, None] * diagonal + where(held, 1.0, 1e-14)
        H = H + np.eye(7) * added[:, None, :]
        return clip(theta - solve(H, gradient[..., None])[..., 0], LOWEST, HIGHEST)


# A trial step may go anywhere; one that overflows is no better and is not taken.
@np.errstate(over="ignore", invalid="ignore")
def _levenberg_marquardt(theta, problem):
    """Minimise |R·c(theta) − z|² for every replicate, with L∞ and A ≥ 0 and α in its range."""
    theta = clip(theta, LOWEST, HIGHEST)
    cost = problem.cost(theta)
    negligible = 1e-26 * (problem.wells.z_BxWx3**2).sum((1, 2))
    damping = np.full(len(theta), 1e-4)
    live = arange(len(theta))
    for _ in range(STEPS):
        part = replace(problem, wells=problem.wells.replicates(live))
        trial = part.step(theta[live], damping[live])
        trial_cost = part.cost(trial)
        better = trial_cost <= cost[live]
        gain = where(better, cost[live] - trial_cost, 0.0)
        theta[live] = where(better[:, None], trial, theta[live])
        cost[live] -= gain
        damping[live] = clip(damping[live] * where(better, 0.1, 8.0), 1e-12, 1e12)
        converged = better & (gain <= 1e-9 * cost[live] + negligible[live])
        stuck = damping[live] >= 1e8
        live = live[~(converged | stuck)]
        if not len(live):
            break
    return theta, cost
