"""How wide the intervals of a planned sweep will be, before a FLOP is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hpt.analysis.predict import predict_lr
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import ConfigError
from hpt.metrics.transfer import transfer_report

LAWS = {
    "SP": Law(
        L_inf=2.6,
        A=8.0,
        alpha=0.45,
        beta=0.7,
        gamma=1.3,
        log2_lr=-7,
        curvature=0.25,
        diverges_above=3.7,
    ),
    "SP+Embd": Law(
        L_inf=2.45,
        A=7.0,
        alpha=0.5,
        beta=0.9,
        gamma=1.6,
        log2_lr=-7,
        curvature=0.2,
        diverges_above=3.7,
    ),
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
    """Try a planned sweep on synthetic truth: how wide will its intervals be, and what will it
    determine?

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
    errors E, E_extrap, which the design
    itself makes), span: median width of the 95 % interval, span_90: the width that nine in ten stay
        under (inf where
    open), error: median absolute error of the estimate, determined: share of the sweeps whose data
        determine it, runs:
    training runs a parameterization needs.

    Raises
    ------
    ConfigError: for no sweeps, or a width or rate that is not positive.
    """
    laws = dict(LAWS if laws is None else {"SP": laws} if isinstance(laws, Law) else laws)
    widths = sorted(dict.fromkeys(widths))
    if sweeps < 1 or len(widths) < 2 or min(widths) <= 0 or (isinstance(lrs, int) and lrs < 3):
        raise ConfigError(
            f"design(widths={widths}, lrs={lrs!r}, sweeps={sweeps}): too little to fit a law to.",
            "transfer needs two widths or more, a basin three learning rates or more",
            "design([32, 64, 128, 256], 7, seeds=2, noise=0.01)",
        )
    target, reference = target or 4 * widths[-1], reference or list(laws)[-1]
    rng = np.random.default_rng(seed)
    found = []
    for i in range(sweeps):
        shift = rng.uniform(-0.5, 0.5) * spacing if isinstance(lrs, int) else 0.0
        moved = {n: _shifted(law, shift) for n, law in laws.items()}
        table = _sweep(moved, widths, lrs, seeds, noise, spacing, seed + i)
        report = transfer_report(table, reference=reference, bootstraps=bootstraps, seed=i)
        found.append(
            _figures(report, moved, widths[-1], target, reference).assign(
                runs=len(table) / len(laws)
            )
        )
    return _summary(pd.concat(found, ignore_index=True))


def _shifted(law: Law, octaves: float) -> Law:
    return Law(
        **{
            **{f: getattr(law, f) for f in law.__dataclass_fields__},
            "log2_lr": law.log2_lr + octaves,
        }
    )


def _sweep(laws, widths, lrs, seeds, noise, spacing, seed) -> pd.DataFrame:
    common = {"seeds": seeds, "noise": noise, "seed": seed}
    if isinstance(lrs, int):
        return synthetic_sweep(laws, widths=widths, count=lrs, spacing=spacing, **common)
    grids = lrs if isinstance(lrs, Mapping) else dict.fromkeys(widths, lrs)
    missing = [n for n in widths if n not in grids]
    if missing or any(not (np.asarray(g, float) > 0).all() for g in grids.values()):
        raise ConfigError(
            f"design(lrs=…) has no positive learning rates for width {missing or list(grids)}.",
            remedy="design(widths, {32: [2**-8, 2**-7, 2**-6], …})",
        )
    parts = [
        synthetic_sweep(
            laws,
            widths=[n],
            log2_lrs=np.log2(np.asarray(grids[n], float)),
            **common | {"seed": seed * len(widths) + w},
        )
        for w, n in enumerate(widths)
    ]
    return pd.concat(parts, ignore_index=True)


def _figures(report, laws: Mapping[str, Law], largest, target, reference) -> pd.DataFrame:
    """Every figure of one sweep beside its truth."""
    rows = []

    def add(name, figure, truth, row, column):
        rows.append(
            (
                name,
                figure,
                truth,
                row[column],
                row[f"{column}_low"],
                row[f"{column}_high"],
                row.get(f"{column}_determined", row.get("determined")),
            )
        )

    wells = report.basins[report.basins[report.scale] == largest].to_dict("records")
    for row in wells:
        add(
            row["parameterization"],
            "log2_lr",
            laws[row["parameterization"]].best_log2_lr(largest),
            row,
            "log2_lr",
        )
    for row in predict_lr(report, width=target).to_dict("records"):
        truth = laws[row["parameterization"]].best_log2_lr(target)
        add(row["parameterization"], f"log2_lr at {target:g}", truth, row, "log2_lr")
    base = laws[reference]
    for row in report.to_frame().to_dict("records"):
        law = laws[row["parameterization"]]
        truths = {n: getattr(law, n) for n in ("alpha", "beta", "gamma", "kappa")}
        truths |= {"R": law.L_inf - base.L_inf, "octave_error": 0.0}
        for figure in FIGURES:
            if figure != "R" or law is not base:
                add(row["parameterization"], figure, truths.get(figure, np.nan), row, figure)
    for row in report.penalty[report.penalty[report.scale] == largest].to_dict("records"):
        law = laws[row["parameterization"]]
        if law is not base:
            add(
                row["parameterization"],
                "R(n)",
                law.best_loss(largest) - base.best_loss(largest),
                row,
                "R",
            )
    columns = ["parameterization", "figure", "truth", "estimate", "low", "high", "determined"]
    return pd.DataFrame(rows, columns=columns)


def _summary(found: pd.DataFrame) -> pd.DataFrame:
    found = found.assign(
        span=(found.high - found.low).fillna(np.inf), error=(found.estimate - found.truth).abs()
    )
    grouped = found.groupby(["parameterization", "figure"], sort=False)
    return grouped.agg(
        truth=("truth", "mean"),
        span=("span", "median"),
        span_90=("span", lambda s: float(np.quantile(s, 0.9, method="higher"))),
        error=("error", "median"),
        determined=("determined", "mean"),
        runs=("runs", "first"),
    ).reset_index()
