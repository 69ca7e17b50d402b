"""How wide the intervals of a planned sweep will be, before a FLOP is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError
from hpt.metrics.transfer import transfer_report

_COMMON = {"log2_lr": -7, "diverges_above": 3.7}
LAWS = {
    "SP": Law(L_inf=2.6, A=8.0, alpha=0.45, beta=0.7, gamma=1.3, curvature=0.25, **_COMMON),
    "SP+Embd": Law(L_inf=2.45, A=7.0, alpha=0.5, beta=0.9, gamma=1.6, curvature=0.2, **_COMMON),
}
FIGURES = ("beta", "kappa", "alpha", "gamma", "E", "E_extrap", "octave_error", "R")


def design(
    widths: Sequence[int],
    lrs: int | Sequence[float] | Mapping[int, Sequence[float]],
    seeds: int = 1,
    noise: float = 0.01,
    *,
    laws: Law | Mapping[str, Law] | None = None,
    spacing: float = 1.0,
    target: float | None = None,
    reference: str | None = None,
    sweeps: int = 20,
    bootstraps: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Try a planned sweep on synthetic truth: how wide are its intervals, what does it determine?

    Parameters
    ----------
    widths: the widths to be trained.
    lrs: how many learning rates a width gets, `spacing` octaves apart about its optimum (whose
        place in the grid is drawn anew for each sweep); or the hidden learning rates themselves,
        the same for all widths or for each.
    seeds: runs a learning rate.
    noise: standard deviation of the final loss between seeds, nats. Two seeds of one configuration
        tell it.
    laws: the truth; by default two parameterizations, one that transfers badly and one better.
    target: width of the large model; by default four times the largest.
    reference: the parameterization that R compares with; by default the last law.
    sweeps: synthetic sweeps to draw.

    Returns
    -------
    DataFrame, one row a parameterization and figure (log2_lr at the largest width, "log2_lr at N"
    predicted at the target, beta, kappa, …, "R(n)" at the largest width, R): truth (nan for the
    errors E, E_extrap, which the design itself makes), span: median width of the 95 % interval,
    span_90: the width that nine in ten stay under (inf where open), error: median absolute error of
    the estimate, determined: share of the sweeps whose data determine it, runs: training runs a
    parameterization needs.

    Raises
    ------
    ConfigError: for no sweeps, or a width or rate that is not positive.
    """
    if isinstance(laws, Law):
        laws = {"SP": laws}
    laws = laws or LAWS
    widths = sorted(set(widths))
    counted = isinstance(lrs, int)
    if sweeps < 1 or len(widths) < 2 or min(widths) <= 0 or (counted and lrs < 3):
        raise ConfigError(
            f"design(widths={widths}, lrs={lrs!r}, sweeps={sweeps}): too little to fit a law to.",
            "transfer needs two widths or more, a basin three learning rates or more",
            "design([32, 64, 128, 256], 7, seeds=2, noise=0.01)",
        )
    target = target or 4 * widths[-1]
    reference = reference or list(laws)[-1]
    rng = np.random.default_rng(seed)
    sweep = partial(synthetic_sweep, seeds=seeds, noise=noise)
    found = []
    for i in range(sweeps):
        truth = laws
        if counted:
            shift = rng.uniform(-0.5, 0.5) * spacing
            truth = {n: replace(law, log2_lr=law.log2_lr + shift) for n, law in laws.items()}
            table = sweep(truth, widths=widths, count=lrs, spacing=spacing, seed=seed + i)
        else:
            table = _sweep_of_rates(sweep, laws, widths, lrs, seed + i)
        report = transfer_report(table, reference=reference, bootstraps=bootstraps, seed=i)
        rows = _beside_truth(report, truth, widths[-1], target, reference)
        found.append(pd.DataFrame(rows).assign(runs=len(table) / len(laws)))
    return _summary(pd.concat(found))


def _sweep_of_rates(sweep, laws, widths, lrs, seed):
    """A sweep over learning rates that are given, the same for all widths or for each."""
    grids = lrs if isinstance(lrs, Mapping) else dict.fromkeys(widths, lrs)
    missing = [width for width in widths if width not in grids]
    if missing or not all(np.greater(grid, 0).all() for grid in grids.values()):
        raise ConfigError(
            f"design(lrs=…) has no positive learning rates for width {missing or list(grids)}.",
            remedy="design(widths, {32: [2**-8, 2**-7, 2**-6], …})",
        )
    parts = []
    for w, width in enumerate(widths):
        log2_lrs = np.log2(grids[width])
        parts.append(sweep(laws, widths=[width], log2_lrs=log2_lrs, seed=seed * len(widths) + w))
    return pd.concat(parts, ignore_index=True)


def _beside_truth(report, laws, largest, target, reference):
    """Every figure of one sweep beside its truth."""
    sources = (
        (report.basins.query("width == @largest"), {"log2_lr": "log2_lr"}),
        (predict_lr(report, width=target), {f"log2_lr at {target:g}": "log2_lr"}),
        (report.to_frame(), {figure: figure for figure in FIGURES}),
        (report.penalty.query("width == @largest"), {"R(n)": "R"}),
    )
    rows = []
    for frame, columns in sources:
        for row in frame.to_dict("records"):
            name = row["parameterization"]
            truths = _truths(laws[name], laws[reference], largest, target)
            for figure, column in columns.items():
                if name != reference or column != "R":
                    known = {"parameterization": name, "figure": figure}
                    rows.append(known | _errors(row, column, truths.get(figure, np.nan)))
    return rows


def _truths(law, base, largest, target):
    exponents = {name: getattr(law, name) for name in ("alpha", "beta", "gamma", "kappa")}
    return exponents | {
        "log2_lr": law.best_log2_lr(largest),
        f"log2_lr at {target:g}": law.best_log2_lr(target),
        "octave_error": 0.0,
        "R": law.L_inf - base.L_inf,
        "R(n)": law.best_loss(largest) - base.best_loss(largest),
    }


def _errors(row, column, truth):
    return {
        "truth": truth,
        "span": row[f"{column}_high"] - row[f"{column}_low"],
        "error": abs(row[column] - truth),
        "determined": row.get(f"{column}_determined", row.get("determined")),
    }


def _summary(found):
    found["span"] = found["span"].fillna(np.inf)
    grouped = found.groupby(["parameterization", "figure"], sort=False, as_index=False)
    return grouped.agg(
        truth=("truth", "mean"),
        span=("span", "median"),
        span_90=("span", lambda spans: np.quantile(spans, 0.9, method="higher")),
        error=("error", "median"),
        determined=("determined", "mean"),
        runs=("runs", "first"),
    )
