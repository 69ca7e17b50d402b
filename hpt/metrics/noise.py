"""The noise that runs of one seed and width share: same batches, same validation set, whatever the
learning rate.

It moves a whole basin, so that one seed cannot show it within a width. Two things tell of it: seeds
that differ alike at all learning rates, and L*(n) that strays from its law by more than the runs'
own noise explains, alike in all groups where seeds are labelled. Their likelihoods, times a prior
for its share of a run's variance, are summed on a grid; the replicates draw from that posterior. It
widens L*, α, E_extrap and R(∞); η*, β, γ and R(n) do not feel it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from hpt.metrics.basin import LN2, WellFit, phi2
from hpt.metrics.law import ALPHA, A

if TYPE_CHECKING:
    from hpt.metrics.group import GroupFit

SHARE_K = np.arange(41) / 43  # of a run's variance, up to 0.93
PRIOR_K = np.where(
    SHARE_K == 0, 0.5, 0.5 / 40
)  # of each share, before the data speak: none is as likely as some


@dataclass(frozen=True, eq=False)
class CommonNoise:
    """Posterior of the shared noise's standard deviation: `sd_K` (nats) has probability `p_K`."""

    sd_K: np.ndarray
    p_K: np.ndarray

    @classmethod
    def none(cls) -> CommonNoise:
        return cls(np.zeros(1), np.ones(1))

    @property
    def sd(self) -> float:
        """Root mean square, nats."""
        return float(np.sqrt(self.p_K @ self.sd_K**2))

    def draw(
        self, shape: tuple[int, int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shared noise of `shape` (B, W, S), nats, and the deviation (B,) that each replicate has
        drawn."""
        sd_B = rng.choice(self.sd_K, size=shape[0], p=self.p_K)
        return sd_B[:, None, None] * rng.standard_normal(shape), sd_B


def common_noise(fits: Sequence[GroupFit], own_sd_G: Sequence[float], paired: bool) -> CommonNoise:
    """Estimate it from the runs in basins with a well.

    Parameters
    ----------
    own_sd_G: noise of one run that is its own, nats, for each group; nan where unknown.
    paired: whether seeds are labelled, so that all groups share it.
    """
    known = [sd for sd in own_sd_G if np.isfinite(sd)]
    own = float(np.median(np.square(known))) if known else 0.0
    if not own > 0:
        return CommonNoise.none()
    between, df, cells, within = seed_variance(_runs(fits))
    own_seeds = within if df else own
    odds_K = SHARE_K / (1 - SHARE_K)
    square_K = own * odds_K
    expected_K = own_seeds + cells * square_K
    log_p_K = np.log(PRIOR_K) - 0.5 * df * np.log(expected_K) - 0.5 * between / expected_K
    log_p_K += _law_likelihood(fits, own_sd_G, square_K, paired)
    p_K = np.exp(log_p_K - log_p_K.max())
    return CommonNoise(np.sqrt(square_K), p_K / p_K.sum())


def seed_variance(runs: pd.DataFrame) -> tuple[float, float, float, float]:
    """Two-way analysis of variance, cells by seeds: sum of squares between seeds (nats²), its
    degrees of freedom, the mean number of cells, and the variance of one run within (nats²). Zeros
    where no width has two cells with the same two seeds."""
    between = within = df_between = df_within = cells = 0.0
    for _, rows in runs.groupby("scale"):
        loss_CxS = rows.pivot_table(index="cell", columns="seed", values="loss")
        repeats_C = loss_CxS.notna().sum(axis=1)
        loss_CxS = loss_CxS[repeats_C == repeats_C.max()].dropna(axis=1).to_numpy()
        C, S = loss_CxS.shape
        if C < 2 or S < 2:
            continue
        r = loss_CxS - loss_CxS.mean(1, keepdims=True)
        seed_S = r.mean(0)
        between += C * (seed_S**2).sum()
        within += ((r - seed_S) ** 2).sum()
        df_between += S - 1
        df_within += (C - 1) * (S - 1)
        cells += C * (S - 1)
    return (
        (between, df_between, cells / df_between, within / df_within)
        if df_between
        else (0.0, 0.0, 0.0, 0.0)
    )


def _law_likelihood(fits: Sequence[GroupFit], own_sd_G, square_K, paired: bool):
    """ln likelihood (K,) of what the laws of L* leave over, to a constant, for shared variances
    `square_K` (nats²)."""
    scales = np.unique(np.concatenate([f.points.scale_W for f in fits]))
    W = len(scales)
    information, pull, seeds = [], [], []
    for fit, own_sd in zip(fits, own_sd_G, strict=True):
        if len(fit.fitted) < 4 or not own_sd > 0:
            continue
        at = np.searchsorted(scales, fit.points.scale_W[fit.fitted])
        P, b, seeds_W = _left_over(fit, own_sd)
        information.append(np.zeros((W, W)))
        pull.append(np.zeros(W))
        seeds.append(np.full(W, np.nan))
        information[-1][np.ix_(at, at)], pull[-1][at], seeds[-1][at] = P, b, seeds_W
    if not information:
        return np.zeros(len(square_K))
    if paired:
        seeds = np.array(seeds)
        known = np.isfinite(seeds)
        mean_W = np.where(known, seeds, 0).sum(0) / np.maximum(known.sum(0), 1)
        information, pull, seeds = [sum(information)], [sum(pull)], [np.maximum(mean_W, 1)]
    total_K = np.zeros(len(square_K))
    for P, b, seeds_W in zip(information, pull, seeds, strict=True):
        root_W = 1 / np.sqrt(np.where(np.isfinite(seeds_W), seeds_W, 1))
        m, Q = np.linalg.eigh(P * root_W[:, None] * root_W)
        swing = 1 + np.outer(square_K, np.maximum(m, 0))
        total_K += (
            -0.5 * np.log(swing) + 0.5 * square_K[:, None] * (Q.T @ (root_W * b)) ** 2 / swing
        ).sum(1)
    return total_K


def _left_over(fit: GroupFit, own_sd: float):
    """Information P (W, W) and P·r, 1/nats² and 1/nats, of L* about its law, in the directions that
    the law's three parameters leave over; and the number of seeds at each width."""
    part = fit.points.take(fit.fitted)
    wells = WellFit(part, fit.skew)(part.loss_WxP[None])
    u_W = (fit.log2_lr_W[fit.fitted] - part.origin_W) * LN2
    basis = np.stack([np.ones_like(u_W), u_W, u_W**2 * phi2(fit.skew * u_W)], -1)
    lever = np.linalg.solve(np.swapaxes(wells.R_BxWx3x3[0], -1, -2), basis[..., None])[..., 0]
    variance_W = own_sd**2 * (lever**2).sum(1)
    theta, z_W = fit.law.theta_Bx7[0], np.log(part.scale_W / fit.law.scale0)
    power = np.exp(-theta[ALPHA] * z_W)
    J = np.stack([np.ones_like(z_W), power, -theta[A] * z_W * power], -1)
    N = np.linalg.qr(J, mode="complete")[0][:, 3:]
    P = N @ np.linalg.solve(N.T @ (variance_W[:, None] * N), N.T)
    rest_W = fit.loss_W[fit.fitted] - fit.law.wells(part.scale_W)[1][0]
    seeds_W = np.array([len(np.unique(c[c >= 0])) for c in part.seed_WxP], float)
    return P, P @ rest_W, seeds_W


def _runs(fits: Sequence[GroupFit]) -> pd.DataFrame:
    """The runs in basins with a well: scale, cell, seed, loss."""
    frames = [pd.DataFrame({"scale": np.repeat(0.0, 0), "cell": [], "seed": [], "loss": []})]
    for g, fit in enumerate(fits):
        for w in fit.fitted:
            inside = fit.points.weight_WxP[w] > 0
            frames.append(
                pd.DataFrame(
                    {
                        "scale": fit.points.scale_W[w],
                        "cell": [f"{g}:{u:.6f}" for u in fit.points.u_WxP[w, inside]],
                        "seed": fit.points.seed_WxP[w, inside],
                        "loss": fit.points.loss_WxP[w, inside],
                    }
                )
            )
    return pd.concat(frames[1:] or frames, ignore_index=True)


PRIOR_DF = 4.0  # what the other groups' noise weighs against a group's own


@dataclass(frozen=True)
class Scatter:
    """Sums of squares (nats²) and degrees of freedom of a group's runs about their wells.

    Attributes
    ----------
    total, total_df: of all runs. own, own_df: with the mean of each width's seed taken out. misfit,
        misfit_df: of the
    means at each learning rate, which only a wrong shape moves more than a run's own noise does.
    """

    total: float = 0.0
    total_df: float = 0.0
    own: float = 0.0
    own_df: float = 0.0
    misfit: float = 0.0
    misfit_df: float = 0.0


@dataclass(frozen=True)
class Noise:
    """Noise of one run that is its own, nats, with degrees of freedom; by which factor lack of fit
    has raised it; and what runs of one seed and width share, nats."""

    sd: float
    df: float
    raised: float = 1.0
    common_sd: float = 0.0


def scatter_of(residual_WxP, weight_WxP, cell_WxP, seed_WxP) -> Scatter:
    """The scatter of residuals (nats); `cell_WxP` tells learning rates apart, `weight_WxP` is 0
    where padded."""
    inside = weight_WxP > 0
    r = np.where(inside, residual_WxP * np.sqrt(weight_WxP), 0.0)
    freedom = 3 * len(r) + 1
    own, seeds, misfit, cells = r.copy(), 0, 0.0, 0
    for w, used in enumerate(inside):
        codes, seed_P = np.unique(seed_WxP[w, used], return_inverse=True)
        own[w, used] -= (np.bincount(seed_P, r[w, used]) / np.bincount(seed_P))[seed_P]
        seeds += len(codes) - 1
        _, cell_P = np.unique(np.round(cell_WxP[w, used], 6), return_inverse=True)
        misfit += (np.bincount(cell_P, r[w, used]) ** 2 / np.bincount(cell_P)).sum()
        cells += cell_P.max() + 1
    total_df = inside.sum() - freedom
    total, own_total = (r**2).sum(), (own**2).sum()
    return Scatter(
        *map(float, (total, total_df, own_total, total_df - seeds, misfit, cells - freedom))
    )


def noise_of(scatters: list[Scatter], shared: bool) -> list[Noise]:
    """Each group's noise. A group with few runs to spare leans on the median of the others; one
    whose curves miss their means by more than noise explains takes the misfit for its noise.
    `shared`: runs of one seed share some."""
    pairs = [(s.own, s.own_df) if shared else (s.total, s.total_df) for s in scatters]
    known = np.array([df >= 1 for _, df in pairs])
    typical = (
        float(np.median([total / df for total, df in pairs if df >= 1])) if known.any() else 0.0
    )
    noises = []
    for g, (scatter, (total, df)) in enumerate(zip(scatters, pairs, strict=True)):
        lean, df = PRIOR_DF * np.delete(known, g).any(), max(df, 0.0)
        variance = (total * (df > 0) + lean * typical) / (df + lean) if df + lean else np.nan
        weight, raised = df + lean, 1.0
        repeats_df = scatter.total_df - scatter.misfit_df
        if scatter.misfit_df >= 1 and repeats_df >= 1:
            misfit = scatter.misfit / scatter.misfit_df
            if (
                misfit > variance
                and stats.f.sf(misfit / max(variance, 1e-300), scatter.misfit_df, weight) < 0.1
            ):
                raised = np.sqrt(misfit / max(variance, 1e-300))
                variance, weight = misfit, scatter.misfit_df
        noises.append(Noise(float(np.sqrt(variance)), float(weight), float(raised)))
    return noises
