"""Other ways to find a basin's optimum, and a contest between them on sweeps whose truth is known.

:mod:`hpt.metrics.basin` keeps the winner; these are here so that anyone can repeat the contest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError
from hpt.metrics.basin import LN2, SKEW_PRIOR, basin_window, phi2
from hpt.metrics.transfer import basins

STEPS = 401  # points of a basin at which an interpolation is read


def parabola(log2_lr_K, loss_KxB, points: int = 3):
    """Vertex (B,) of the least-squares parabola through the best learning rate and its
    neighbours."""
    best, half = int(np.argmin(loss_KxB.mean(1))), points // 2
    near = slice(max(best - half, 0), best + half + 1)
    return _lowest(np.polyfit(log2_lr_K[near], loss_KxB[near], 2), log2_lr_K[near])


def cubic(log2_lr_K, loss_KxB):
    """Minimum (B,) of the least-squares cubic through all learning rates of the basin; a parabola
    below four."""
    return _lowest(np.polyfit(log2_lr_K, loss_KxB, min(3, len(log2_lr_K) - 1)), log2_lr_K)


def interpolated(log2_lr_K, loss_KxB, kind: Callable = PchipInterpolator):
    """Minimum (B,) of a curve that goes through every point."""
    return _read(log2_lr_K, kind(log2_lr_K, loss_KxB))


def own_skew(log2_lr_K, loss_KxB):
    """The skewed well of :mod:`hpt.metrics.basin` with a skew of this width's own."""
    u_K = (log2_lr_K - log2_lr_K.mean()) * LN2
    fits = []
    for s in np.linspace(-1, 2.5, 36) if len(u_K) > 3 else [SKEW_PRIOR[0]]:
        basis = np.stack([np.ones_like(u_K), u_K, u_K**2 * phi2(s * u_K)], axis=1)
        c, *_ = np.linalg.lstsq(basis, loss_KxB, rcond=None)
        fits.append((((basis @ c - loss_KxB) ** 2).sum(0), s, c))
    pick_B = np.argmin([sse for sse, _, _ in fits], axis=0)
    grid = np.linspace(u_K[0], u_K[-1], STEPS)
    curve = np.stack(
        [c[0] + np.outer(grid, c[1]) + np.outer(grid**2 * phi2(s * grid), c[2]) for _, s, c in fits]
    )
    lowest_SxB = grid[curve.argmin(1)]
    return lowest_SxB[pick_B, np.arange(len(pick_B))] / LN2 + log2_lr_K.mean()


def _lowest(c, x_K):
    grid = np.linspace(x_K[0], x_K[-1], STEPS)
    return grid[(np.vander(grid, len(c)) @ c).argmin(0)]


def _read(x_K, curve):
    grid = np.linspace(x_K[0], x_K[-1], STEPS)
    return grid[curve(grid).argmin(0)]


METHODS: dict[str, Callable] = {
    "parabola, 3 rates": parabola,
    "parabola, 5 rates": partial(parabola, points=5),
    "cubic": cubic,
    "PCHIP": interpolated,
    "Akima": partial(interpolated, kind=Akima1DInterpolator),
    "skewed well, a skew a width": own_skew,
}
HPT = "skewed well, a skew a group (hpt)"
SHAPES = (("parabola", 0.0), ("linex", 0.5), ("bent", 0.5), ("bent", 1.0), ("kinked", 0.5))


def compare_methods(
    *,
    sweeps: int = 20,
    noise: float = 0.01,
    spacings: Sequence[float] = (1.0, 0.5),
    shapes: Sequence[tuple[str, float]] = SHAPES,
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    bootstraps: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Bias, error and coverage of η* for each method, on sweeps of one seed with known truth.

    All see the same learning rates, those of :func:`hpt.metrics.basin.basin_window`. The interval
    of every method but hpt's is the central 95 % of its estimates when noise of the true size is
    added to the losses once more; hpt's own has to estimate the noise.

    Parameters
    ----------
    sweeps: for each shape and spacing; the optimum lies anywhere between two rates.
    noise: nats.
    spacings: octaves between learning rates.
    shapes: (shape, skew) of the truth, as in :class:`hpt.Law`.

    Returns
    -------
    DataFrame, one row a method, shape, skew and spacing: bias (mean error), error (median absolute
        error), worst
    (95 % quantile of it), all octaves; covered (% of 95 % intervals), width (median, octaves), n.

    Raises
    ------
    ConfigError: for no sweeps.
    """
    if sweeps < 1:
        raise ConfigError(
            f"compare_methods(sweeps={sweeps}) compares nothing.",
            remedy="compare_methods(sweeps=20)",
        )
    rows = []
    for shape, skew in shapes:
        for spacing in spacings:
            for i in range(sweeps):
                rng = np.random.default_rng([seed, i])
                law = Law(
                    shape=shape,
                    skew=skew,
                    log2_lr=-7 + rng.uniform(-0.5, 0.5) * spacing,
                    diverges_above=3.7,
                )
                count = 9 if spacing >= 1 else 11
                table = synthetic_sweep(
                    law, widths=widths, spacing=spacing, count=count, noise=noise, seed=seed + i
                )
                for name, errors in _errors(table, law, noise, bootstraps, rng):
                    rows += [(name, shape, skew, spacing, *e) for e in errors]
    columns = ["method", "shape", "skew", "spacing", "off", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(
        size=table.off.abs(),
        inside=100.0 * ((table.low <= 0) & (table.high >= 0)),
        span=table.high - table.low,
    )
    return (
        table.groupby(["method", "shape", "skew", "spacing"], sort=False)
        .agg(
            bias=("off", "mean"),
            error=("size", "median"),
            worst=("size", lambda v: v.quantile(0.95)),
            covered=("inside", "mean"),
            width=("span", "median"),
            n=("off", "size"),
        )
        .reset_index()
    )


def _errors(table: pd.DataFrame, law: Law, noise: float, bootstraps: int, rng):
    """For each method the (error, low, high) of every width, octaves off the truth."""
    wells = basins(table, bootstraps=max(bootstraps, 20))
    truth = law.best_log2_lr(wells.width.to_numpy())
    found = wells[["log2_lr", "log2_lr_low", "log2_lr_high"]].to_numpy() - truth[:, None]
    known = (wells.edge == "").to_numpy()
    yield HPT, found[known]
    cells = []
    for (width, rows), ok in zip(table.groupby("width"), known, strict=True):
        window = basin_window(rows.log2_lr.to_numpy(), rows.loss.to_numpy())
        x_K, y_K = rows.log2_lr.to_numpy()[window], rows.loss.to_numpy()[window]
        if ok and len(x_K) > 2:
            again = y_K[:, None] + noise * rng.standard_normal((len(y_K), bootstraps))
            cells.append((x_K, np.column_stack([y_K, again]), law.best_log2_lr(width)))
    for name, method in METHODS.items():
        found = [method(x_K, y_KxB) - true for x_K, y_KxB, true in cells]
        yield name, [(u[0], *np.quantile(u[1:], [0.025, 0.975])) for u in found]
