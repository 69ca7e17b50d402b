"""Noise of a sweep, replicates of it, and intervals from them.

One seed leaves no repeats to resample, and two or three are too few to. So the bootstrap is parametric: the noise is
the scatter of all runs in a group's basins about their wells (repeats and lack of fit together), its uncertainty is
drawn along (σ² as df·σ̂²/χ²_df, which widens intervals as Student's t does), and every replicate is the fitted curve
plus fresh noise. The part of the noise that runs of one seed and width share (same batches) is drawn once for all
groups where seeds are labelled: it cancels in differences between variants. One seed cannot show that part, and a few
show it badly, so that its estimate leans on a prior: COMMON_SHARE of the variance, worth COMMON_DF degrees of freedom.
It widens L*, α, E_extrap and R(∞); η*, β, γ and R(n) do not feel it. Where the shape of a basin is not the well's, η*
and the curvature are off by an amount that grows with the skew: a part of their intervals, alike at all widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

NOISE_UNKNOWN = "noise unknown: no run to spare beyond the fit's own freedom"
PRIOR_DF = 4.0  # what the other groups' noise weighs against a group's own
COMMON_SHARE = 0.25  # of a run's noise variance that its seed and width fix, before the data speak
COMMON_DF = 2.0
LEAST_COMMON_DF = 8.0  # below it the draws' tails would be the prior's, not the data's
SHAPE_OCTAVES = 0.04  # deviation of η* over likely shapes of the basin, per unit of skew
SHAPE_CURVATURE = 0.06  # the same of ln h


@dataclass(frozen=True)
class Scatter:
    """Sums of squares (nats²) and degrees of freedom of a group's runs about their wells.

    Attributes
    ----------
    total, total_df: of all runs. own, own_df: with the mean of each width's seed taken out. misfit, misfit_df: of the
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
    """Noise of one run, nats: what is its own, and what runs of one seed and width share, with degrees of freedom."""

    own_sd: float
    own_df: float
    common_sd: float = 0.0
    common_df: float = 1.0


def scatter_of(residual_WxP, weight_WxP, cell_WxP, seed_WxP) -> Scatter:
    """The scatter of residuals (nats); `cell_WxP` tells learning rates apart, `weight_WxP` is 0 where padded."""
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
    return Scatter(*map(float, (total, total_df, own_total, total_df - seeds, misfit, cells - freedom)))


def noise_of(scatters: list[Scatter], common_sd: float, common_df: float) -> list[Noise]:
    """Each group's noise. A group with few runs to spare leans on the median of the others; one whose curves miss their
    means by more than noise explains takes the misfit for its noise."""
    pairs = [(s.own, s.own_df) if common_sd else (s.total, s.total_df) for s in scatters]
    known = np.array([df >= 1 for _, df in pairs])
    typical = float(np.median([total / df for total, df in pairs if df >= 1])) if known.any() else 0.0
    noises = []
    for g, (scatter, (total, df)) in enumerate(zip(scatters, pairs, strict=True)):
        lean, df = PRIOR_DF * np.delete(known, g).any(), max(df, 0.0)
        variance = (total * (df > 0) + lean * typical) / (df + lean) if df + lean else np.nan
        weight = df + lean
        repeats_df = scatter.total_df - scatter.misfit_df
        if scatter.misfit_df >= 1 and repeats_df >= 1:
            misfit = scatter.misfit / scatter.misfit_df
            if misfit > variance and stats.f.sf(misfit / max(variance, 1e-300), scatter.misfit_df, weight) < 0.1:
                variance, weight = misfit, scatter.misfit_df
        noises.append(Noise(float(np.sqrt(variance)), float(weight), common_sd, common_df))
    return noises


def common_noise(runs: pd.DataFrame, scale: str, typical: float) -> tuple[float, float]:
    """What runs of one seed and width share: standard deviation (nats) and degrees of freedom.

    Two-way analysis of variance, cells by seeds, with a prior. `runs` has scale, cell, seed, loss of the runs in
    basins; `typical` is the variance of one run (nats²), for where no width has two cells with the same two seeds.
    """
    between = within = df_between = df_within = cells = 0.0
    for _, rows in runs.groupby(scale):
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
    odds = COMMON_SHARE / (1 - COMMON_SHARE)
    if not df_between:
        return float(np.sqrt(odds * typical)) if typical > 0 else 0.0, LEAST_COMMON_DF
    own, C = within / df_within, cells / df_between
    square = (COMMON_DF * own * (1 + C * odds) + between) / (COMMON_DF + df_between)
    return float(np.sqrt(max(square - own, 0.0) / C)), max(COMMON_DF + df_between, LEAST_COMMON_DF)


def typical_variance(scatters: list[Scatter]) -> float:
    """The median over groups of a run's variance about its well, nats²; 0 where none is known."""
    known = [s.total / s.total_df for s in scatters if s.total_df >= 1]
    return float(np.median(known)) if known else 0.0


def draw_common(noise: Noise, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """The noise that runs of one seed and width share, nats, of `shape` (B, W, S): drawn once for all groups."""
    widen_B = np.sqrt(noise.common_df / rng.chisquare(noise.common_df, shape[0]))
    return noise.common_sd * widen_B[:, None, None] * rng.standard_normal(shape)


def draw_noise(noise: Noise, weight_WxP, seed_WxP, common_BxWxS, rng: np.random.Generator):
    """Fresh noise for B replicates of a group's runs, nats, (B, W, P), and by how much σ was drawn above σ̂, (B,)."""
    B = len(common_BxWxS)
    widen_B = np.sqrt(noise.own_df / rng.chisquare(noise.own_df, B))
    own = noise.own_sd * widen_B[:, None, None] * rng.standard_normal((B, *weight_WxP.shape))
    if noise.common_sd:
        own += np.take_along_axis(common_BxWxS, np.maximum(seed_WxP, 0)[None], axis=2)
    return own, widen_B


def at_known_noise(size_B, widen_B):
    """Sizes (B,) such as E, cleared of the scatter that comes from drawing σ: their interval is a ratio, in which σ
    cancels. The mean square given the draw is a straight line in its square."""
    square_B, draw_B = size_B**2, widen_B**2
    slope, level = np.polyfit(draw_B, square_B, 1) if np.ptp(draw_B) > 0 and np.isfinite(square_B).all() else (0.0, 1.0)
    slope, level = max(slope, 0.0), max(level, 0.0)
    return size_B * np.sqrt((level + slope) / (level + slope * draw_B)) if level + slope > 0 else size_B


def interval(replicates, level: float) -> tuple[float, float]:
    """Central interval of replicates (B,). A nan says nothing: it counts half as −inf, half as +inf."""
    replicates = np.asarray(replicates, float)
    lost = np.isnan(replicates)
    if lost.any():
        replicates = np.where(lost, np.where(np.cumsum(lost) % 2, -np.inf, np.inf), replicates)
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, tail, method="lower"), np.quantile(replicates, 1 - tail, method="higher")
    return float(low), float(high)


def ratio_interval(estimate: float, replicates, level: float) -> tuple[float, float]:
    """Interval of the root mean square that a size, such as E, has over repeats of the sweep.

    The ratio of a replicate to the replicates' root mean square is a pivot; dividing the estimate by its quantiles
    gives the interval.
    """
    replicates = np.asarray(replicates, float)
    typical = np.sqrt(np.mean(replicates**2))
    if not typical > 1e-12 * max(estimate, 1e-300) or not np.isfinite(typical):
        return estimate, estimate
    low, high = interval(replicates / typical, level)
    return estimate / high, estimate / low if low > 0 else np.inf
