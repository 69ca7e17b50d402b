"""Noise of a sweep, replicates of it, and intervals from them.

Where seeds are few the bootstrap is parametric: the noise is the scatter of all runs in a group's basins about their
wells (repeats and lack of fit together), its uncertainty is drawn along (σ² as df·σ̂²/χ²_df, which widens intervals as
Student's t does), and every replicate is the fitted curve plus fresh noise. What runs of one seed and width share
(:mod:`hpt.metrics.noise`) is drawn once for all groups where seeds are labelled: it cancels in differences.

Where seeds are many enough, each width's seeds are resampled as a whole, alike in all groups: the deviations of a
seed's runs from the means of their cells, times one random weight. The weights are normal (a smoothed bootstrap), times
√(k/(k − 1)) for the means' own freedom and √(ν/χ²_ν), ν = k − 1, for the variance's, so that at one width k seeds give
the interval of Student's t, whatever the noise of a seed's runs has in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import nnls

from hpt.errors import TableError, did_you_mean
from hpt.metrics.basin import Points
from hpt.metrics.noise import CommonNoise

NOISE_UNKNOWN = "noise unknown: no run to spare beyond the fit's own freedom"
PARAMETRIC, SEEDS = "parametric", "seeds"
LEAST_SEEDS = 5  # from which "auto" resamples them: docs/coverage.md
WIDEST = 10.0  # factor by which few seeds may widen a replicate's noise: beyond it there is no well
PRIOR_DF = 4.0  # what the other groups' noise weighs against a group's own


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
    """Noise of one run that is its own, nats, with degrees of freedom; by which factor lack of fit has raised it; and
    what runs of one seed and width share, nats."""

    sd: float
    df: float
    raised: float = 1.0
    common_sd: float = 0.0


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


def noise_of(scatters: list[Scatter], shared: bool) -> list[Noise]:
    """Each group's noise. A group with few runs to spare leans on the median of the others; one whose curves miss their
    means by more than noise explains takes the misfit for its noise. `shared`: runs of one seed share some."""
    pairs = [(s.own, s.own_df) if shared else (s.total, s.total_df) for s in scatters]
    known = np.array([df >= 1 for _, df in pairs])
    typical = float(np.median([total / df for total, df in pairs if df >= 1])) if known.any() else 0.0
    noises = []
    for g, (scatter, (total, df)) in enumerate(zip(scatters, pairs, strict=True)):
        lean, df = PRIOR_DF * np.delete(known, g).any(), max(df, 0.0)
        variance = (total * (df > 0) + lean * typical) / (df + lean) if df + lean else np.nan
        weight, raised = df + lean, 1.0
        repeats_df = scatter.total_df - scatter.misfit_df
        if scatter.misfit_df >= 1 and repeats_df >= 1:
            misfit = scatter.misfit / scatter.misfit_df
            if misfit > variance and stats.f.sf(misfit / max(variance, 1e-300), scatter.misfit_df, weight) < 0.1:
                raised = np.sqrt(misfit / max(variance, 1e-300))
                variance, weight = misfit, scatter.misfit_df
        noises.append(Noise(float(np.sqrt(variance)), float(weight), float(raised)))
    return noises


@dataclass(frozen=True, eq=False)
class SharedDraws:
    """What B replicates have in common over groups, at W scales and S seeds.

    Attributes
    ----------
    common_BxWxS: noise that runs of one seed share, nats; sd_B: the deviation drawn for it.
    weight_BxWxS: of each seed's deviations where seeds are resampled, widen_BxW: what these have been widened by; else
        None.
    """

    common_BxWxS: np.ndarray
    sd_B: np.ndarray
    weight_BxWxS: np.ndarray | None = None
    widen_BxW: np.ndarray | None = None

    @classmethod
    def draw(cls, common: CommonNoise, shape: tuple[int, int, int], rng, seeds_W=None) -> SharedDraws:
        """`seeds_W`: number of seeds at each scale, for resampling them."""
        common_BxWxS, sd_B = common.draw(shape, rng)
        if seeds_W is None:
            return cls(common_BxWxS, sd_B)
        df_W = np.maximum(np.asarray(seeds_W) - 1.0, 1.0)
        widen_BxW = np.minimum(np.sqrt(df_W / rng.chisquare(df_W, shape[:2])), WIDEST)
        return cls(common_BxWxS, sd_B, widen_BxW[..., None] * rng.standard_normal(shape), widen_BxW)

    def take(self, scales) -> SharedDraws:
        """The same at some of the scales."""
        return SharedDraws(self.common_BxWxS[:, scales], self.sd_B, *(
            None if v is None else v[:, scales] for v in (self.weight_BxWxS, self.widen_BxW)))


def draw_noise(noise: Noise, points: Points, shared: SharedDraws, rng: np.random.Generator):
    """Fresh noise for B replicates of a group's runs, nats, (B, W, P); what each replicate has drawn above the noise
    known, as squares (B, F) that are 1 or thereabouts on average; and the method."""
    B, code_WxP = len(shared.sd_B), np.maximum(points.seed_WxP, 0)[None]
    widen_B = np.sqrt(noise.df / rng.chisquare(noise.df, B))
    drawn = noise.sd * widen_B[:, None, None] * rng.standard_normal((B, *points.loss_WxP.shape))
    squares, method = [widen_B**2], PARAMETRIC
    if shared.sd_B.any():
        drawn += np.take_along_axis(shared.common_BxWxS, code_WxP, axis=2)
        squares.append(shared.sd_B**2 / np.mean(shared.sd_B**2))
    repeats_WxP = repeats(points)
    if shared.weight_BxWxS is not None and (repeats_WxP > 1).any():
        weight_BxWxP = np.take_along_axis(shared.weight_BxWxS, code_WxP, axis=2)
        drawn = np.where(repeats_WxP > 1, noise.raised * _deviations(points) * weight_BxWxP, drawn)
        single = (repeats_WxP == 1).any()
        method = f"{SEEDS} + {PARAMETRIC}" if single else SEEDS
        squares = [*(squares if single else []), *(shared.widen_BxW**2).T]
    return drawn, np.stack(squares, axis=1), method


def repeats(points: Points):
    """How many runs (W, P) share each run's learning rate; 0 where padded."""
    return _same_rate(points).sum(-1) * (points.weight_WxP > 0)


def _same_rate(points: Points):
    """Whether a run (second P) is inside and has another's (first P) learning rate, (W, P, P)."""
    near_WxPxP = np.abs(points.u_WxP[:, :, None] - points.u_WxP[:, None]) < 1e-6
    return near_WxPxP & (points.weight_WxP > 0)[:, None]


def _deviations(points: Points):
    """Each run's distance from the mean of its learning rate times √(k/(k − 1)), nats (W, P)."""
    k_WxP = np.maximum(repeats(points), 1)
    mean_WxP = (_same_rate(points) * points.loss_WxP[:, None]).sum(-1) / k_WxP
    return (points.loss_WxP - mean_WxP) * np.sqrt(k_WxP / np.maximum(k_WxP - 1, 1)) * (points.weight_WxP > 0)


def seeds_to_resample(resample: str, groups: Sequence[Points], scales, labelled: bool) -> np.ndarray | None:
    """Number of seeds at each of `scales` (fewest of any group) where seeds are to be resampled, else None.

    "auto" does where nine tenths of the runs near an optimum have LEAST_SEEDS labelled seeds at their learning rate.

    Raises
    ------
    TableError: for an unknown way, or seeds asked for that are not there.
    """
    if resample not in ("auto", SEEDS, PARAMETRIC):
        raise TableError(f"transfer_report(resample={resample!r}) is no way to draw replicates.",
                         did_you_mean(resample, ("auto", SEEDS, PARAMETRIC)), "resample='auto'")
    counts = [(scale, k[k > 0]) for points in groups
              for scale, k in zip(points.scale_W, repeats(points), strict=True)]
    every = np.concatenate([k for _, k in counts]) if counts else np.zeros(0)
    if resample == "auto" and not (labelled and len(every) and np.mean(every >= LEAST_SEEDS) >= 0.9):
        return None
    if resample == PARAMETRIC:
        return None
    if not labelled or not (every > 1).any():
        raise TableError("transfer_report(resample='seeds') has no seeds to resample.",
                         "no learning rate has two runs" if labelled else "the table has no column 'seed'",
                         "resample='auto', or a column 'seed' with a label for each repeat")
    fewest_W = np.full(len(scales), np.inf)
    for scale, k in counts:
        if (k > 1).any():
            w = np.searchsorted(scales, scale)
            fewest_W[w] = min(fewest_W[w], np.median(k[k > 1]))
    return np.where(np.isfinite(fewest_W), fewest_W, 2)


def at_known_noise(size_B, square_BxF):
    """Sizes (B,) such as E, cleared of the scatter that comes from drawing the noise's size: their interval is a ratio,
    in which that cancels. The mean square is a sum of the squares drawn, with weights that are not below zero."""
    X = np.column_stack([np.ones(len(size_B)), square_BxF])
    total_B = X.sum(1)
    if not np.isfinite(size_B).all() or not np.any(size_B):
        return size_B
    weight_F, _ = nnls(X / total_B[:, None], size_B**2 / total_B)
    return size_B * np.sqrt(weight_F.sum() / np.maximum(X @ weight_F, 1e-300))


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
