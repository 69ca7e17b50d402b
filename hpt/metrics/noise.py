"""Noise: of one run, from the scatter of runs about their wells; and what runs of one seed and width
share.

The shared noise comes from the same batches and the same validation set, whatever the learning
rate. It moves a whole basin, so that one seed cannot show it within a width. Two things tell of it:
seeds that differ alike at all learning rates, and L*(n) that strays from its law by more than the
runs' own noise explains, alike in all groups where seeds are labelled. Their likelihoods, times a
prior for its share of a run's variance, are summed on a grid; the replicates draw from that
posterior. It widens L*, α, E_extrap and R(∞); η*, β, γ and R(n) do not feel it.

Letters: W widths, P runs of a width, K trials, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from numpy import (
    arange,
    concatenate,
    exp,
    isfinite,
    log,
    log2,
    maximum,
    median,
    nan,
    ndarray,
    nonzero,
    ones,
    ones_like,
    outer,
    searchsorted,
    sqrt,
    square,
    stack,
    swapaxes,
    unique,
    vstack,
    where,
    zeros,
)
from numpy.linalg import norm, solve, svd
from scipy import stats
from scipy.linalg import null_space

from hpt.metrics.group import GroupFit
from hpt.metrics.law import ALPHA, A
from hpt.metrics.wells import WellFit, well_basis

# What the other groups' noise weighs against a group's own, in degrees of freedom.
PRIOR_DF = 4.0
# Below so many degrees of freedom about the wells the noise is that about the law of all widths,
# which has so many parameters.
LEAST_DF = 4
LAW_FREEDOM = 7
# A misfit below this, nats, is rounding, not lack of fit.
QUIET = 1e-6
# The probability under which a misfit of the learning rates' means is no chance.
LACK_OF_FIT_P = 0.1
# Shares of a run's variance, up to 0.93, and the prior of each: none is as likely as some.
SHARE_K = arange(41) / 43
PRIOR_K = where(SHARE_K == 0, 0.5, 0.5 / 40)
# By how much the noise's deviation may grow with size, ln an octave, and the prior of each: normal, but
# that it does not grow is as likely as that it does.
GROWTH_K = arange(-10, 11) / 10
GROWTH_PRIOR_K = where(GROWTH_K == 0, 0.0, stats.norm.pdf(GROWTH_K, scale=0.3))
GROWTH_PRIOR_K[GROWTH_K == 0] = GROWTH_PRIOR_K.sum()


@dataclass(frozen=True)
class Scatter:
    """Sums of squares (nats²) and degrees of freedom of a group's runs about their wells, or, where
    these have hardly any to spare, about their law.

    Attributes
    ----------
    own, own_df: of the runs' own noise.
    misfit, misfit_df: of the means at each learning rate, which only a wrong shape moves more than a
        run's own noise does.
    repeats_df: degrees of freedom among runs of one learning rate.
    """

    own: float
    own_df: int
    misfit: float
    misfit_df: int
    repeats_df: int


@dataclass(frozen=True)
class Noise:
    """Noise of one run that is its own, nats, with degrees of freedom; by which factor lack of fit
    has raised it; what runs of one seed and width share, nats; and the posterior of GROWTH_K."""

    sd: float
    df: float
    raised: float = 1.0
    common_sd: float = 0.0
    growth_p_K: ndarray | None = None


def scatter_of(fit: GroupFit, shared: bool) -> Scatter:
    """The scatter of a group. `shared`: runs of one seed share some noise, which is not their own,
    so that the mean of each width's seed is taken out."""
    points = fit.basins
    r_WxP = fit.residual_WxP
    own_WxP = r_WxP
    own_df = points.spare
    if shared:
        own_WxP = r_WxP - points.means(points.seed_WxP, r_WxP)
        own_df -= (points.seeds_W - 1).sum()
    means_WxP = points.means(points.rate_WxP, r_WxP)
    repeats_df = points.inside_WxP.sum() - points.rates_W.sum()
    misfit_df = points.spare - repeats_df
    pooled_df = points.inside_WxP.sum() - LAW_FREEDOM
    if own_df < LEAST_DF and len(fit.fitted) >= 3 and pooled_df > own_df:
        pooled = fit.law.cost_B[0] + (r_WxP**2).sum()
        return Scatter(pooled, pooled_df, 0.0, 0, 0)
    own = (own_WxP**2).sum() * (own_df > 0)
    return Scatter(own, max(own_df, 0), (means_WxP**2).sum(), misfit_df, repeats_df)


def growth_of(fit: GroupFit) -> ndarray:
    """Posterior of GROWTH_K, from the scatter of each width's runs about its well."""
    points = fit.basins
    square_W = (fit.residual_WxP**2).sum(1)
    df_W = points.inside_WxP.sum(1) - 3
    ln_sd_KxW = outer(GROWTH_K, log2(points.scale_W))
    scaled_K = (square_W * exp(-2 * ln_sd_KxW)).sum(1)
    log_p_K = -ln_sd_KxW @ df_W - 0.5 * df_W.sum() * log(maximum(scaled_K, 1e-300))
    p_K = GROWTH_PRIOR_K * exp(log_p_K - log_p_K.max())
    return p_K / p_K.sum()


def noise_of(fits: Sequence[GroupFit], shared: bool) -> list[Noise]:
    """Each group's noise. A group with few runs to spare leans on the median of the others; one
    whose curves miss their means by more than noise explains takes the misfit for its noise.
    `shared`: runs of one seed share some."""
    scatters = [scatter_of(fit, shared) for fit in fits]
    variances = [s.own / s.own_df for s in scatters if s.own_df >= 1]
    typical = median(variances) if variances else 0.0
    return [_noise(s, typical, PRIOR_DF * (len(variances) > (s.own_df >= 1))) for s in scatters]


def _noise(scatter, typical, lean):
    """A group's noise, its variance leaning on a typical one as on so many degrees of freedom."""
    df = scatter.own_df + lean
    if not df:
        return Noise(nan, 0.0)
    variance = (scatter.own + lean * typical) / df
    noise = Noise(sqrt(variance), df)
    if scatter.misfit_df < 1 or scatter.repeats_df < 1:
        return noise
    misfit = scatter.misfit / scatter.misfit_df
    F = misfit / max(variance, 1e-300)
    if misfit < QUIET**2 or F <= 1 or stats.f.sf(F, scatter.misfit_df, df) >= LACK_OF_FIT_P:
        return noise
    return Noise(sqrt(misfit), scatter.misfit_df, raised=sqrt(F))


@dataclass(frozen=True, eq=False)
class CommonNoise:
    """Posterior of the shared noise's standard deviation: `sd_K` (nats) has probability `p_K`."""

    sd_K: ndarray
    p_K: ndarray

    @classmethod
    def none(cls) -> CommonNoise:
        return cls(zeros(1), ones(1))

    @property
    def sd(self) -> float:
        """Root mean square, nats."""
        return sqrt(self.p_K @ self.sd_K**2)


def common_noise(fits: Sequence[GroupFit], own_sd_G: Sequence[float], paired: bool) -> CommonNoise:
    """Estimate the shared noise from the runs in basins with a well.

    Parameters
    ----------
    own_sd_G: noise of one run that is its own, nats, for each group; nan where unknown.
    paired: whether seeds are labelled, so that all groups share it.
    """
    known = square([sd for sd in own_sd_G if isfinite(sd)])
    own = median(known) if len(known) else 0.0
    if own <= 0:
        return CommonNoise.none()
    square_K = own * SHARE_K / (1 - SHARE_K)
    between, df, runs = seed_variance(fits)
    expected_K = own + runs * square_K
    log_p_K = log(PRIOR_K) - 0.5 * df * log(expected_K) - 0.5 * between / expected_K
    log_p_K += _law_likelihood(fits, own_sd_G, square_K, paired)
    p_K = exp(log_p_K - log_p_K.max())
    return CommonNoise(sqrt(square_K), p_K / p_K.sum())


def seed_variance(fits: Sequence[GroupFit]) -> tuple[float, int, float]:
    """How far seeds lie from the wells: the sum of squares of their means at each width, over all
    learning rates and groups (nats²), its degrees of freedom, and the number of runs that such a mean
    rests on. Zeros where each width has one seed."""
    parts = []
    for fit in fits:
        points = fit.basins
        w, p = nonzero(points.inside_WxP)
        columns = {"scale": points.scale_W[w], "seed": points.seed_WxP[w, p], "left": fit.residual_WxP[w, p]}
        parts.append(pd.DataFrame(columns))
    seeds = pd.concat(parts).groupby(["scale", "seed"])["left"].agg(["size", "mean"])
    df = len(seeds) - seeds.groupby("scale").ngroups
    if not df:
        return 0.0, 0, 0.0
    return (seeds["size"] * seeds["mean"] ** 2).sum(), df, seeds["size"].mean()


def _law_likelihood(fits, own_sd_G, square_K, paired):
    """ln likelihood (K,) of what the laws of L* leave over, to a constant, for shared variances
    `square_K` (nats²)."""
    scales = unique(concatenate([fit.points.scale_W for fit in fits]))
    pairs = zip(fits, own_sd_G, strict=True)
    told = [_left_over(fit, sd, scales) for fit, sd in pairs if len(fit.fitted) >= 4 and sd > 0]
    pools = [told] if paired and told else [[one] for one in told]
    total_K = zeros(len(square_K))
    for pool in pools:
        left, shared = zip(*pool, strict=True)
        U, size_W, _ = svd(vstack(shared), full_matrices=False)
        pull_W = U.T @ concatenate(left)
        swing_KxW = 1 + outer(square_K, size_W**2)
        gain_KxW = (1 - 1 / swing_KxW) * pull_W**2 - log(swing_KxW)
        total_K += 0.5 * gain_KxW.sum(1)
    return total_K


def _left_over(fit, own_sd, scales):
    """What a group's law of L* leaves over, as independent numbers whose own noise is 1 (W − 3,); and
    how much noise of one nat that the runs of a seed share at each of `scales` moves them."""
    points = fit.basins
    u_W, loss_W, _ = fit.wells
    R_Wx3x3 = WellFit(points, fit.skew).R_SxWx3x3[0]
    basis_Wx3x1 = well_basis(u_W, fit.skew)[..., None]
    lever_Wx3x1 = solve(swapaxes(R_Wx3x3, -1, -2), basis_Wx3x1)
    own_W = own_sd * norm(lever_Wx3x1, axis=1)[:, 0]
    (law_loss_W,) = fit.law.loss(points.scale_W)
    left_W = (loss_W - law_loss_W) / own_W
    z_W = fit.law.z(points.scale_W)
    theta = fit.law.theta_Bx7[0]
    power_W = exp(-theta[ALPHA] * z_W)
    slope_3xW = stack([ones_like(z_W), power_W, -theta[A] * z_W * power_W])
    free = null_space(slope_3xW / own_W)
    shared_WxW = zeros((len(z_W), len(scales)))
    at = searchsorted(scales, points.scale_W)
    shared_WxW[arange(len(at)), at] = 1 / (own_W * sqrt(points.seeds_W))
    return free.T @ left_W, free.T @ shared_WxW
