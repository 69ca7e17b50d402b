"""Other ways to find a basin's optimum, and a contest between them on sweeps whose truth is known.

:mod:`hpt.metrics.wells` keeps the winner; these are here so that anyone can repeat the contest.

Letters: K learning rates of a basin, B losses at each (the measured one first), G points of a
curve, S skews.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError
from hpt.metrics.basin import LN2, basin_window
from hpt.metrics.transfer import basins
from hpt.metrics.wells import SKEW_PRIOR, phi2

STEPS = 401  # points of a basin at which a curve is read


def parabola(log2_lr_K, loss_KxB, points: int = 3):
    """Vertex (B,) of the least-squares parabola through the best rate and its neighbours."""
    best = int(np.argmin(loss_KxB.mean(1)))
    half = points // 2
    near = slice(max(best - half, 0), best + half + 1)
    return _polynomial(log2_lr_K[near], loss_KxB[near], degree=2)


def cubic(log2_lr_K, loss_KxB):
    """Minimum (B,) of the least-squares cubic through all rates; a parabola below four."""
    return _polynomial(log2_lr_K, loss_KxB, degree=min(3, len(log2_lr_K) - 1))


def _polynomial(log2_lr_K, loss_KxB, degree: int):
    coefficients = np.polyfit(log2_lr_K, loss_KxB, degree)
    grid_G = np.linspace(log2_lr_K[0], log2_lr_K[-1], STEPS)
    curve_GxB = np.vander(grid_G, degree + 1) @ coefficients
    return grid_G[curve_GxB.argmin(0)]


def interpolated(log2_lr_K, loss_KxB, kind: Callable = PchipInterpolator):
    """Minimum (B,) of a curve that goes through every point."""
    grid_G = np.linspace(log2_lr_K[0], log2_lr_K[-1], STEPS)
    curve_GxB = kind(log2_lr_K, loss_KxB)(grid_G)
    return grid_G[curve_GxB.argmin(0)]


def own_skew(log2_lr_K, loss_KxB):
    """The skewed well of :mod:`hpt.metrics.wells` with a skew of this width's own."""
    middle = log2_lr_K.mean()
    u_K = (log2_lr_K - middle) * LN2
    grid_G = np.linspace(u_K[0], u_K[-1], STEPS)
    misses = []
    lowest = []
    for skew in np.linspace(-1, 2.5, 36) if len(u_K) > 3 else [SKEW_PRIOR[0]]:
        coefficients, *_ = np.linalg.lstsq(_well_basis(u_K, skew), loss_KxB, rcond=None)
        misses.append(((_well_basis(u_K, skew) @ coefficients - loss_KxB) ** 2).sum(0))
        curve_GxB = _well_basis(grid_G, skew) @ coefficients
        lowest.append(grid_G[curve_GxB.argmin(0)])
    best_B = np.argmin(misses, axis=0)
    lowest_SxB = np.array(lowest)
    return lowest_SxB[best_B, np.arange(len(best_B))] / LN2 + middle


def _well_basis(u, skew):
    """What a well of this skew is a sum of: 1, u and u²·phi2(skew·u)."""
    return np.stack([np.ones_like(u), u, u**2 * phi2(skew * u)], axis=1)


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
    error), worst (95 % quantile of it), all octaves; covered (% of 95 % intervals), width (median,
    octaves), n.

    Raises
    ------
    ConfigError: for no sweeps.
    """
    if sweeps < 1:
        raise ConfigError(
            f"compare_methods(sweeps={sweeps}) compares nothing.", remedy="compare_methods(sweeps=20)"
        )
    found = []
    for (shape, skew), spacing, i in product(shapes, spacings, range(sweeps)):
        rng = np.random.default_rng([seed, i])
        best = -7 + rng.uniform(-0.5, 0.5) * spacing
        law = Law(shape=shape, skew=skew, log2_lr=best, diverges_above=3.7)
        grid = {"spacing": spacing, "count": 9 if spacing >= 1 else 11}
        table = synthetic_sweep(law, widths=widths, noise=noise, seed=seed + i, **grid)
        errors = _errors(table, law, noise, bootstraps, rng)
        found.append(errors.assign(shape=shape, skew=skew, spacing=spacing))
    table = pd.concat(found)
    table["size"] = table["off"].abs()
    table["inside"] = 100.0 * ((table["low"] <= 0) & (table["high"] >= 0))
    table["span"] = table["high"] - table["low"]
    grouped = table.groupby(["method", "shape", "skew", "spacing"], sort=False)
    return grouped.agg(
        bias=("off", "mean"),
        error=("size", "median"),
        worst=("size", lambda sizes: sizes.quantile(0.95)),
        covered=("inside", "mean"),
        width=("span", "median"),
        n=("off", "size"),
    ).reset_index()


def _errors(table: pd.DataFrame, law: Law, noise: float, bootstraps: int, rng) -> pd.DataFrame:
    """A row a method and width: how far η* is off the truth, and its interval, in octaves."""
    wells = basins(table, bootstraps=max(bootstraps, 20)).set_index("width")
    wells = wells[wells["edge"] == ""]
    rows = []
    seen = []
    for width, well in wells.iterrows():
        off = well[["log2_lr", "log2_lr_low", "log2_lr_high"]] - law.best_log2_lr(width)
        rows.append((HPT, *off))
        runs = table[table["width"] == width]
        window = basin_window(runs["log2_lr"].to_numpy(), runs["loss"].to_numpy())
        x_K = runs["log2_lr"].to_numpy()[window]
        y_K = runs["loss"].to_numpy()[window]
        if len(x_K) > 2:
            again_KxB = y_K[:, None] + noise * rng.standard_normal((len(y_K), bootstraps))
            seen.append((width, x_K, np.column_stack([y_K, again_KxB])))
    for name, method in METHODS.items():
        for width, x_K, y_KxB in seen:
            off_B = method(x_K, y_KxB) - law.best_log2_lr(width)
            rows.append((name, off_B[0], *np.quantile(off_B[1:], [0.025, 0.975])))
    return pd.DataFrame(rows, columns=["method", "off", "low", "high"])
