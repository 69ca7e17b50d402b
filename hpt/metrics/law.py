"""The joint fit of one group: one law of width for L*, η* and curvature, by least squares over all
runs in the basins.

L(n, η) = L∞ + A·m^(−α) + h0·m^(γ_log)·f_s(ln η − ln η0 + β·ln m), with m = n/n0 and n0 the
geometric mean width (the fit of Kalra & Barkeshli 2026, arXiv 2605.21486, with the skewed well of
:mod:`hpt.metrics.wells` in the place of their parabola, which is s = 0). Since a well is linear in
three numbers given s, the runs of a width enter through three numbers too, and thousands of
bootstrap replicates are solved as one batch by a projected Levenberg–Marquardt, started from the
best of a grid of α for the first.

Letters: B replicates, W widths, P runs of a width; z is ln m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from numpy import (
    arange,
    array,
    asarray,
    clip,
    column_stack,
    diagonal,
    errstate,
    exp,
    eye,
    fmin,
    full,
    geomspace,
    inf,
    isfinite,
    isnan,
    log,
    moveaxis,
    nan,
    ndarray,
    ones_like,
    stack,
    swapaxes,
    where,
    zeros,
)
from numpy.linalg import solve
from scipy.optimize import nnls

from hpt.metrics.basin import LN2, Points
from hpt.metrics.bend import mean_slope
from hpt.metrics.wells import Wells, coefficients, losses_at

L_INF, A, ALPHA, LN_LR, BETA, LN_H, GAMMA_LOG = range(7)
ALPHA_RANGE = (0.02, 5.0)
LOWEST = array([0.0, 0.0, ALPHA_RANGE[0], -inf, -10.0, -inf, -10.0])
HIGHEST = array([inf, inf, ALPHA_RANGE[1], inf, 10.0, inf, 10.0])
# So near a bound is at it, in nats or as a share of a loss below one: how near a fit comes hangs on when it
# ends. On four studies of ours no verdict is another than after five times the steps, for less of a gain.
AT_BOUND = 1e-3
STEPS = 200
LEAST_GAIN = 1e-8


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

    def z(self, scale) -> ndarray:
        """ln m at `scale` (W,)."""
        return log(asarray(scale, float) / self.scale0)

    def ln_lr(self, scale) -> ndarray:
        """ln η* at `scale` (W,), shape (B, W)."""
        ln_lr0, beta = self._columns(LN_LR, BETA)
        return ln_lr0 - beta * self.z(scale)

    def log2_lr(self, scale) -> ndarray:
        """log2 η* there."""
        return self.ln_lr(scale) / LN2

    def loss(self, scale) -> ndarray:
        """L* there, nats."""
        L_inf, a, alpha = self._columns(L_INF, A, ALPHA)
        power = exp(clip(-alpha * self.z(scale), -300, 300))
        return L_inf + a * power

    def curvature(self, scale) -> ndarray:
        """h there, nats."""
        ln_h0, gamma_log = self._columns(LN_H, GAMMA_LOG)
        return exp(clip(ln_h0 + gamma_log * self.z(scale), -40, 40))

    def _columns(self, *columns):
        """These parameters, (B, 1) each."""
        return self.theta_Bx7.T[list(columns), :, None]

    def wells_at(self, points: Points):
        """ln η* from each width's origin, L* (nats) and h at the widths of `points`, (B, W) each."""
        scale_W = points.scale_W
        u = self.ln_lr(scale_W) - points.origin_W * LN2
        return u, self.loss(scale_W), self.curvature(scale_W)

    def losses(self, points: Points) -> ndarray:
        """The law's loss at every run, nats, (B, W, P)."""
        return losses_at(points, *self.wells_at(points), self.skew_B[:, None, None])

    def at_bound(self, columns=slice(3)) -> ndarray:
        """(B,) bool: any of these parameters at a bound, so that it is not determined; by default
        those of the loss."""
        near_Bx1 = AT_BOUND * fmin(self.loss([self.scale0]), 1.0)
        theta = self.theta_Bx7[:, columns]
        low = theta <= LOWEST[columns] + near_Bx1
        return (low | (theta >= HIGHEST[columns] - near_Bx1)).any(1)

    def slope_at_bound(self) -> ndarray:
        """(B,) bool: β or γ_log at a bound, so that nothing that depends on it is determined."""
        return self.at_bound([BETA, GAMMA_LOG])


def fit_laws(points: Points, wells: Wells, edges: int = 0) -> LawFit:
    """Fit the law to the widths of `points` in every replicate of `wells`.

    Two widths fix β and γ_log only; L∞, A and α are then nan.

    Parameters
    ----------
    edges: how many of the widths, the last ones, have runs on one side of their optimum alone: no
        wells to start from.
    """
    whole = slice(len(points.scale_W) - edges)
    part = points.take(whole)
    scale0 = float(exp(log(part.scale_W).mean()))
    theta = _straight_lines(part, wells.take(whole), scale0)
    if len(part.scale_W) < 3:
        return LawFit(theta, zeros(len(theta)), wells.skew_B, scale0)
    z_W = log(part.scale_W / scale0)
    theta[:, [L_INF, A, ALPHA]] = _start_of_loss(z_W, wells.loss_BxW[0, whole])
    # A replicate without wells starts where the first one does, and that from anywhere.
    theta = where(isfinite(theta), theta, theta[0])
    anywhere = array([1.0, 0.1, 0.5, (part.origin_W * LN2).mean(), 0.0, -2.0, 0.0])
    theta = where(isfinite(theta), theta, anywhere)
    theta, cost_B = _levenberg_marquardt(theta, _Problem(points, wells, scale0))
    return LawFit(theta, cost_B, wells.skew_B, scale0)


def refit(law: LawFit, points: Points, wells: Wells) -> LawFit:
    """The laws fitted to other wells of the same widths, started from what they are."""
    problem = _Problem(points, wells, law.scale0)
    theta, cost_B = _levenberg_marquardt(law.theta_Bx7.copy(), problem)
    return replace(law, theta_Bx7=theta, cost_B=cost_B)


def _straight_lines(points, wells, scale0):
    """Laws of η* and h alone (B, 7): straight lines through the logarithms of the wells' own."""
    z_W = log(points.scale_W / scale0)
    ln_lr_BxW = wells.u_BxW + points.origin_W * LN2
    ln_h_BxW = log(wells.h_BxW)
    theta = full((len(ln_lr_BxW), 7), nan)
    theta[:, LN_LR] = ln_lr_BxW.mean(1)
    theta[:, BETA] = -mean_slope(z_W, ln_lr_BxW)
    theta[:, LN_H] = ln_h_BxW.mean(1)
    theta[:, GAMMA_LOG] = mean_slope(z_W, ln_h_BxW)
    return theta


def _start_of_loss(z_W, loss_W):
    """L∞, A and α by least squares at each α of a grid, L∞ and A ≥ 0; nan where a loss is."""
    if isnan(loss_W).any():
        return nan, nan, nan
    fits = []
    for alpha in geomspace(0.03, 4.0, 40):
        power_W = exp(-alpha * z_W)
        (L_inf, a), miss = nnls(column_stack([ones_like(z_W), power_W]), loss_W)
        fits.append((miss, L_inf, a, alpha))
    _, *best = sorted(fits)[0]
    return best


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
        a = theta[:, [A]]
        alpha = theta[:, [ALPHA]]
        power = exp(-alpha * z_W)
        c0, c1, c2 = moveaxis(c, -1, 0)
        by_ln_lr = stack([-c1, -c2, -self.wells.skew_B[:, None] * c2], -1)
        by_ln_h = stack([c0 - loss, c1, c2], -1)
        slope = zeros((*c.shape, 7))
        slope[..., 0, L_INF] = 1
        slope[..., 0, A] = power
        slope[..., 0, ALPHA] = -a * z_W * power
        slope[..., LN_LR] = by_ln_lr
        slope[..., BETA] = -by_ln_lr * z_W[:, None]
        slope[..., LN_H] = by_ln_h
        slope[..., GAMMA_LOG] = by_ln_h * z_W[:, None]
        J_BxWx3x7 = self.wells.R_BxWx3x3 @ slope
        return J_BxWx3x7.reshape(len(c), -1, 7)

    def step(self, theta, damping_B):
        """A damped Gauss–Newton step within the bounds; what pushes against one is held."""
        c, loss = self.coefficients(theta)
        J = self.jacobian(theta, c, loss)
        J_T = swapaxes(J, -1, -2)
        gradient = (J_T @ self.residual(c)[..., None])[..., 0]
        held_low = (theta <= LOWEST) & (gradient > 0)
        held_high = (theta >= HIGHEST) & (gradient < 0)
        held = held_low | held_high
        gradient = where(held, 0.0, gradient)
        H = where(held[:, :, None] | held[:, None, :], 0.0, J_T @ J)
        curvature = diagonal(H, axis1=1, axis2=2)
        added = damping_B[:, None] * curvature + where(held, 1.0, 1e-14)
        H = H + eye(7) * added[:, None, :]
        down = solve(H, gradient[..., None])[..., 0]
        return clip(theta - down, LOWEST, HIGHEST)


# A trial step may go anywhere; one that overflows is no better and is not taken.
@errstate(over="ignore", invalid="ignore")
def _levenberg_marquardt(theta, problem):
    """Minimise |R·c(theta) − z|² for every replicate, with L∞ and A ≥ 0 and α in its range."""
    theta = clip(theta, LOWEST, HIGHEST)
    cost = problem.cost(theta)
    square = (problem.wells.z_BxWx3**2).sum((1, 2))
    negligible = 1e-26 * square
    damping = full(len(theta), 1e-4)
    live = arange(len(theta))
    for _ in range(STEPS):
        part = replace(problem, wells=problem.wells.replicates(live))
        trial = part.step(theta[live], damping[live])
        trial_cost = part.cost(trial)
        better = trial_cost <= cost[live]
        gain = where(better, cost[live] - trial_cost, 0.0)
        theta[live] = where(better[:, None], trial, theta[live])
        cost[live] -= gain
        factor = where(better, 0.1, 8.0)
        damping[live] = clip(factor * damping[live], 1e-12, 1e12)
        converged = better & (gain <= LEAST_GAIN * cost[live] + negligible[live])
        stuck = damping[live] >= 1e8
        live = live[~(converged | stuck)]
        if not len(live):
            break
    return theta, cost
