"""The joint fit of one group: one law of width for L*, η* and curvature, by least squares over all
runs in the basins.

L(n, η) = L∞ + A·m^(−α) + h0·m^(γ_log)·f_s(ln η − ln η0 + β·ln m), with m = n/n0 and n0 the
geometric mean width (the fit of Kalra & Barkeshli 2026, arXiv 2605.21486, with the skewed well of
:mod:`hpt.metrics.basin` in the place of their parabola, which is s = 0). Since a well is linear in
three numbers given s, the runs of a width enter through three numbers too, and thousands of
bootstrap replicates are solved as one batch by a projected Levenberg–Marquardt, started from the
best of a grid of α.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpt.metrics.basin import LN2, Points, Wells, coefficients, well_loss

ALPHA_RANGE = (0.02, 5.0)
AT_BOUND = 1e-6
L_INF, A, ALPHA, LN_LR, BETA, LN_H, GAMMA_LOG = range(7)


@dataclass(frozen=True, eq=False)
class LawFit:
    """Laws of B replicates.

    Attributes
    ----------
    theta_Bx7: L∞ (nats), A (nats, reducible loss at n0), α, ln η0, β, ln h0, γ_log.
    cost_B: sum of squares beyond that of one well a width, nats².
    skew_B: s. scale0: n0.
    """

    theta_Bx7: np.ndarray
    cost_B: np.ndarray
    skew_B: np.ndarray
    scale0: float

    def wells(self, scale):
        """ln η*, L* (nats) and h at `scale` (W,), shape (B, W) each."""
        return _wells_of(self.theta_Bx7, np.log(np.asarray(scale, float) / self.scale0))

    def at_bound(self):
        """(B,) bool: L∞ or α at a bound, so that neither is determined."""
        L_inf, a, alpha = self.theta_Bx7[:, L_INF], self.theta_Bx7[:, A], self.theta_Bx7[:, ALPHA]
        tiny = AT_BOUND * np.maximum(np.abs(L_inf) + np.abs(a), 1e-12)
        low, high = ALPHA_RANGE[0] * (1 + 1e-6), ALPHA_RANGE[1] * (1 - 1e-6)
        return (L_inf <= tiny) | (a <= tiny) | (alpha <= low) | (alpha >= high)


def _wells_of(theta, z_W):
    t = theta[..., None, :]
    ln_lr = t[..., LN_LR] - t[..., BETA] * z_W
    loss = t[..., L_INF] + t[..., A] * np.exp(-t[..., ALPHA] * z_W)
    return ln_lr, loss, np.exp(np.clip(t[..., LN_H] + t[..., GAMMA_LOG] * z_W, -40, 40))


def predict(fit: LawFit, points: Points):
    """The law's loss at every run, nats, (B, W, P)."""
    ln_lr, loss, h = fit.wells(points.scale_W)
    u = points.u_WxP - (ln_lr - points.origin_W * LN2)[..., None]
    return well_loss(u, loss[..., None], h[..., None], fit.skew_B[:, None, None])


def fit_laws(
    points: Points, wells: Wells, around: np.ndarray | None = None, edges: int = 0
) -> LawFit:
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
    scale0 = float(np.exp(np.log(points.scale_W[whole]).mean()))
    z_W = np.log(points.scale_W / scale0)
    origin_W = points.origin_W * LN2
    start = _start(z_W[whole], wells.take(whole), origin_W[whole])
    if len(z_W[whole]) < 3:
        return LawFit(start, np.zeros(len(start)), wells.skew_B, scale0)
    usable = np.isfinite(start).all(1)
    if around is not None:
        start = np.where(usable[:, None], start, around)
    start = np.where(
        np.isfinite(start), start, np.array([1.0, 0.1, 0.5, origin_W[whole].mean(), 0.0, -2.0, 0.0])
    )
    theta, cost = _levenberg_marquardt(start, wells, z_W, origin_W)
    return LawFit(theta, cost, wells.skew_B, scale0)


def _start(z_W, wells: Wells, origin_W):
    """Laws through the wells themselves: straight lines in logs, and for L* the best of a grid of
    α."""
    ln_lr, ln_h = wells.u_BxW + origin_W, np.log(wells.h_BxW)
    theta = np.full((len(ln_lr), 7), np.nan)
    theta[:, LN_LR], theta[:, LN_H] = ln_lr.mean(1), ln_h.mean(1)
    spread = (z_W**2).sum()
    theta[:, BETA], theta[:, GAMMA_LOG] = -(ln_lr @ z_W) / spread, (ln_h @ z_W) / spread
    if len(z_W) < 3:
        return theta
    alpha_K = np.geomspace(0.03, 4.0, 40)
    f_KxW = np.exp(-alpha_K[:, None] * z_W)
    df_KxW = f_KxW - f_KxW.mean(1, keepdims=True)
    y = wells.loss_BxW
    slope = (y @ df_KxW.T) / (df_KxW**2).sum(1)
    level = y.mean(1, keepdims=True) - slope * f_KxW.mean(1)
    through_zero = np.maximum((y @ f_KxW.T) / (f_KxW**2).sum(1), 0.0)
    slope, level = np.where(level < 0, through_zero, slope), np.maximum(level, 0.0)
    slope, level = (
        np.maximum(slope, 0.0),
        np.where(slope < 0, np.maximum(y.mean(1, keepdims=True), 0), level),
    )
    sse = ((y[:, None, :] - level[..., None] - slope[..., None] * f_KxW) ** 2).sum(-1)
    k, B = np.argmin(np.where(np.isfinite(sse), sse, np.inf), axis=1), np.arange(len(y))
    theta[:, L_INF], theta[:, A], theta[:, ALPHA] = level[B, k], slope[B, k], alpha_K[k]
    return theta


def _residual(theta, z_BxWx3, R_BxWx3x3, s_B, z_W, origin_W, jacobian: bool):
    """R·c(theta) − z, (B, 3W), and its derivative (B, 3W, 7)."""
    ln_lr, loss, h = _wells_of(theta, z_W)
    u = ln_lr - origin_W
    c = coefficients(u, loss, h, s_B[:, None])
    r = ((R_BxWx3x3 @ c[..., None])[..., 0] - z_BxWx3).reshape(len(theta), -1)
    if not jacobian:
        return r, None
    c0, c1, c2 = np.moveaxis(c, -1, 0)
    zero = np.zeros_like(c0)
    by_u = np.stack([-c1, -c2, -s_B[:, None] * c2], -1)
    by_ln_h = np.stack([c0 - loss, c1, c2], -1)
    power = np.exp(-theta[:, None, ALPHA] * z_W)
    slope_a = np.stack([power, zero, zero], -1)
    one = np.stack([zero + 1, zero, zero], -1)
    columns = [
        one,
        slope_a,
        -slope_a * (theta[:, None, A] * z_W)[..., None],
        by_u,
        -by_u * z_W[:, None],
        by_ln_h,
        by_ln_h * z_W[:, None],
    ]
    return r, (R_BxWx3x3 @ np.stack(columns, -1)).reshape(len(theta), -1, 7)


def _levenberg_marquardt(theta, wells: Wells, z_W, origin_W, steps: int = 60):
    """Minimise |R·c(theta) − z|² for every replicate, with L∞ and A ≥ 0 and α in its range."""
    low = np.array([0.0, 0.0, ALPHA_RANGE[0], -np.inf, -10.0, -np.inf, -10.0])
    high = np.array([np.inf, np.inf, ALPHA_RANGE[1], np.inf, 10.0, np.inf, 10.0])
    theta = np.clip(theta, low, high)
    data = (wells.z_BxWx3, wells.R_BxWx3x3, wells.skew_B)
    cost = (_residual(theta, *data, z_W, origin_W, False)[0] ** 2).sum(1)
    size = (wells.z_BxWx3**2).sum((1, 2))
    damping = np.full(len(theta), 1e-4)
    live = np.arange(len(theta))
    for _ in range(steps):
        part = tuple(d[live] for d in data)
        now = theta[live]
        r, J = _residual(now, *part, z_W, origin_W, True)
        g = np.einsum("bri,br->bi", J, r)
        H = np.swapaxes(J, -1, -2) @ J
        held = ((now <= low) & (g > 0)) | ((now >= high) & (g < 0))
        g = np.where(held, 0.0, g)
        H = np.where(held[:, :, None] | held[:, None, :], 0.0, H)
        diagonal = np.einsum("bii->bi", H)
        H = (
            H
            + np.eye(7) * (damping[live, None] * diagonal + np.where(held, 1.0, 1e-14))[:, None, :]
        )
        trial = np.clip(now - np.linalg.solve(H, g[..., None])[..., 0], low, high)
        new = (_residual(trial, *part, z_W, origin_W, False)[0] ** 2).sum(1)
        better = new <= cost[live]
        gain = np.where(better, cost[live] - new, 0.0)
        theta[live] = np.where(better[:, None], trial, now)
        cost[live] -= gain
        damping[live] = np.clip(
            np.where(better, damping[live] * 0.1, damping[live] * 8), 1e-12, 1e12
        )
        finished = (better & (gain <= 1e-9 * cost[live] + 1e-26 * size[live])) | (
            damping[live] >= 1e8
        )
        live = live[~finished]
        if not len(live):
            break
    return theta, cost
