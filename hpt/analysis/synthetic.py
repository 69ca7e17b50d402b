"""Synthetic sweeps with a known truth: test a design, or the estimator, before a FLOP is spent.

Letters: W widths, K learning rates, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy import arange, exp, inf, isfinite, log, log2, maximum, sqrt, where
from pydantic import Field

from hpt.config import config
from hpt.errors import ConfigError

Shape = Literal["parabola", "linex", "bent", "kinked"]


@config
class Law:
    """How the loss of one parameterization depends on width and learning rate.

    L(n, η) = L_inf + A·n^(−alpha) + h(n)·f(ln η − ln η*(n)), with η* ∝ n^(−beta), ∂²L/∂η² ∝ n^gamma
    and hence h ∝ n^(gamma − 2·beta). f is the basin's shape, ½u² to second order.

    Attributes
    ----------
    L_inf: irreducible loss, nats a token.
    A: reducible loss at width 1, nats.
    alpha, beta, gamma: exponents of width of the reducible loss, of η*, and of the curvature in
        linear η.
    log2_lr: log2 η* at `width_ref`.
    curvature: h at `width_ref`, nats per (ln η)².
    width_ref: where `log2_lr` and `curvature` hold.
    shape: "parabola" ½u²; "linex" (e^(su) − 1 − su)/s²; "bent" ½u²(1 + su/3) above the optimum and
        ½u²/(1 + s|u|/3) below it; "kinked", two parabolas whose curvatures h·e^(±s/2) meet at the
        optimum.
    skew: s, how much steeper the high side is, per unit of ln η; all but "kinked" have f'''(0) = s.
    diverges_above: octaves above η* from which a run diverges.
    bend: curvature of log2 η* in x = log2(n/width_ref), octaves an octave²; above 0 η* falls ever
        faster.
    break_width, beta_beyond: from this width on η* falls with another exponent.
    floor: log2 of a learning rate that η* only nears from above.
    loss_bend: curvature of ln(L* − L_inf) in x, downwards, per octave².

    Source: Kalra & Barkeshli 2026, arXiv 2605.21486, for the form and κ = α − 2β + γ; the shapes
        are ours.
    """

    L_inf: float = Field(2.5, ge=0)
    A: float = Field(8.0, ge=0)
    alpha: float = Field(0.5, gt=0)
    beta: float = 0.7
    gamma: float = 1.2
    log2_lr: float = -7.0
    curvature: float = Field(0.2, gt=0)
    width_ref: float = Field(128, gt=0)
    shape: Shape = "bent"
    skew: float = Field(0.5, ge=0, le=3)
    diverges_above: float = Field(3.2, gt=0)
    bend: float = 0.0
    break_width: float | None = Field(None, gt=0)
    beta_beyond: float = 0.0
    floor: float | None = None
    loss_bend: float = 0.0

    @property
    def gamma_log(self) -> float:
        """Exponent of the curvature in ln η: gamma − 2·beta."""
        return self.gamma - 2 * self.beta

    @property
    def kappa(self) -> float:
        """Robustness exponent κ = alpha − 2·beta + gamma."""
        return self.alpha + self.gamma_log

    def best_log2_lr(self, width):
        """log2 η*(n)."""
        width = np.asarray(width)
        x = log2(width / self.width_ref)
        log2_lr = self.log2_lr - self.beta * x - self.bend * x**2 / 2
        if self.break_width is not None:
            beyond = maximum(log2(width / self.break_width), 0.0)
            log2_lr = log2_lr - (self.beta_beyond - self.beta) * beyond
        return log2_lr if self.floor is None else np.logaddexp2(log2_lr, self.floor)

    def best_loss(self, width):
        """L*(n) in nats."""
        width = np.asarray(width, float)
        x = log2(width / self.width_ref)
        reducible = self.A * width**-self.alpha
        return self.L_inf + reducible * exp(-self.loss_bend * x**2 / 2)

    def basin_curvature(self, width):
        """h(n) in nats per (ln η)²."""
        return self.curvature * (np.asarray(width) / self.width_ref) ** self.gamma_log

    def loss(self, width, log2_lr):
        """L(n, η) in nats, without noise; inf where the run diverges. Arguments broadcast."""
        octaves = np.asarray(log2_lr) - self.best_log2_lr(width)
        rise = self.basin_curvature(width) * _rise(octaves * log(2), self.shape, self.skew)
        return where(octaves >= self.diverges_above, inf, self.best_loss(width) + rise)


def _rise(u, shape, s):
    """The basin's shape f(u): ½u² to second order, third derivative s at the optimum (but for
    "kinked")."""
    if shape == "kinked":
        return 0.5 * u**2 * exp(np.sign(u) * s / 2)
    if shape == "bent":
        return 0.5 * u**2 * where(u > 0, 1 + s * u / 3, 1 / (1 - s * np.minimum(u, 0) / 3))
    if shape == "linex" and s > 1e-6:
        return (np.expm1(s * u) - s * u) / s**2
    return 0.5 * u**2


def synthetic_sweep(
    laws: Law | Mapping[str, Law],
    *,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    log2_lrs: Sequence[float] | None = None,
    spacing: float = 1.0,
    count: int = 9,
    seeds: int = 1,
    noise: float | Sequence[float] = 0.01,
    common: float = 0.0,
    diverged_loss: float = inf,
    seed: int = 0,
) -> pd.DataFrame:
    """A table of a sweep whose truth is known.

    Parameters
    ----------
    laws: one law, or one for each parameterization by name.
    widths: the widths trained.
    log2_lrs: one grid for all widths, or None: `count` rates `spacing` octaves apart, placed on
        multiples of `spacing` so that the grid's middle is nearest to the optimum of each width
        (what an extended sweep ends in).
    seeds: runs at each cell.
    noise: standard deviation of the loss between seeds, nats; one, or one for each width.
    common: share of the noise's variance that runs of one width and seed have in common, whatever
        their learning rate and parameterization (same batches, same validation set), 0 to 1.
    diverged_loss: what is written for a diverged run: inf, or a plateau (about it, by 1 %) at which
        training gets stuck, as ln V; the column `diverged` is then missing.
    seed: of the generator.

    Returns
    -------
    DataFrame with parameterization, width, lr, log2_lr, loss (nats, inf where diverged), diverged,
    seed.

    Raises
    ------
    ConfigError: for a count, noise or share out of range.
    """
    try:
        noise_W = np.broadcast_to(np.asarray(noise, dtype=float), len(widths))
    except (TypeError, ValueError, OverflowError):
        noise_W = np.array([np.nan])
    known = np.all((noise_W >= 0) & (noise_W < inf))
    if min(seeds, count) < 1 or not known or not 0 <= common <= 1 or spacing <= 0:
        raise ConfigError(
            f"{seeds=}, {count=}, {noise=}, {common=} or {spacing=} is out of range.",
            remedy="synthetic_sweep(law, seeds=2, count=9, noise=0.01, common=0.0, spacing=1.0)",
        )
    if isinstance(laws, Law):
        laws = {"SP": laws}
    rng = np.random.default_rng(seed)
    shared_WxS = sqrt(common) * noise_W[:, None] * rng.standard_normal((len(widths), seeds))
    own_W = sqrt(1 - common) * noise_W
    frames = []
    for name, law in laws.items():
        for width, own_noise, shared_S in zip(widths, own_W, shared_WxS, strict=True):
            log2_lr_K = log2_lrs
            if log2_lrs is None:
                first = np.round(law.best_log2_lr(width) / spacing - (count - 1) / 2)
                log2_lr_K = (first + arange(count)) * spacing
            log2_lr = np.repeat(np.asarray(log2_lr_K, float), seeds)
            run_seed = np.tile(arange(seeds), len(log2_lr_K))
            own = own_noise * rng.standard_normal(len(log2_lr))
            rows = {
                "parameterization": name,
                "width": width,
                "lr": 2.0**log2_lr,
                "log2_lr": log2_lr,
                "loss": law.loss(width, log2_lr) + own + shared_S[run_seed],
                "seed": run_seed,
            }
            frames.append(pd.DataFrame(rows))
    table = pd.concat(frames, ignore_index=True)
    diverged = ~isfinite(table["loss"])
    if np.isinf(diverged_loss):
        return table.assign(diverged=diverged)
    stuck = diverged_loss * (1 + 0.01 * rng.standard_normal(len(table)))
    return table.assign(loss=table["loss"].mask(diverged, stuck))
