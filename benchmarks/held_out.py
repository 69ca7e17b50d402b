"""How often the predicted interval holds the optimum of a size that was left out, on real sweeps.

    python benchmarks/held_out.py FOLDER
    python benchmarks/held_out.py FOLDER --learn OTHER

FOLDER holds tables (.csv and the like) with columns size, lr, loss and group. In every group each
size from the third on is left out in turn and its log2 η* is predicted from the smaller ones: by
`hpt.predict_lr`, by a straight line through the optima with the interval of Student's t, and by the
largest of them unchanged. With --learn the prior of bends is the one that makes the ladders of another
folder likeliest, so that none of FOLDER has taken part in it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from hpt.analysis.predict import predict_lr
from hpt.errors import TableError
from hpt.metrics import bend
from hpt.metrics.transfer import basins, transfer_report

WAYS = ("hpt", "line", "unchanged")
LEVEL = 0.95


def line(size_W, log2_lr_W, size: float) -> tuple[float, float, float]:
    """Prediction and interval of a straight line in log size; no interval from two sizes."""
    x_W = np.log2(size_W)
    x = np.log2(size)
    slope, offset = np.polyfit(x_W, log2_lr_W, 1)
    predicted = offset + slope * x
    df = len(x_W) - 2
    if df < 1:
        return predicted, -np.inf, np.inf
    spread = np.sqrt(((log2_lr_W - offset - slope * x_W) ** 2).sum() / df)
    lever = 1 / len(x_W) + (x - x_W.mean()) ** 2 / ((x_W - x_W.mean()) ** 2).sum()
    half = stats.t.ppf((1 + LEVEL) / 2, df) * spread * np.sqrt(1 + lever)
    return predicted, predicted - half, predicted + half


def held_out(table: pd.DataFrame, bootstraps: int = 300) -> pd.DataFrame:
    """Every optimum that can be left out of a table, measured and predicted in log2: a row each.

    Returns
    -------
    DataFrame: group, size, sizes (how many smaller ones), octaves (of size, beyond the largest of
    them), measured, and hpt, line and unchanged, each with _low and _high where it has an interval;
    determined, of hpt's.
    """
    rows = []
    for group, ladder in table.groupby("group"):
        sizes = np.sort(ladder["size"].unique())
        for k in range(2, len(sizes)):
            smaller = ladder[ladder["size"] < sizes[k]]
            there = ladder[ladder["size"] == sizes[k]]
            row = _predicted(smaller, there, sizes[k], bootstraps)
            if row:
                beyond = np.log2(sizes[k] / sizes[k - 1])
                rows.append({"group": group, "size": sizes[k], "sizes": k, "octaves": beyond} | row)
    return pd.DataFrame(rows)


def _predicted(smaller, there, size, bootstraps):
    """One row's figures; None where the size left out, or the smaller ones, have no optimum."""
    options = {"scale": "size", "bootstraps": bootstraps}
    try:
        measured = basins(there[["size", "lr", "loss"]], **options).iloc[0]
        report = transfer_report(smaller[["size", "lr", "loss"]], **options)
    except TableError:
        return None
    known = report.basins[report.basins["reason"] == ""]
    found = predict_lr(report, width=size).iloc[0]
    if measured["edge"] or not np.isfinite(measured["log2_lr"]) or not np.isfinite(found["log2_lr"]):
        return None
    optima = [measured, found]
    row = {}
    for name, optimum in zip(("measured", "hpt"), optima, strict=True):
        row |= {name + end: optimum["log2_lr" + end] for end in ("", "_low", "_high")}
    row["determined"] = found["determined"]
    if len(known) >= 2:
        straight = line(known["size"].to_numpy(float), known["log2_lr"].to_numpy(), size)
        row |= dict(zip(("line", "line_low", "line_high"), straight, strict=True))
        row["unchanged"] = known["log2_lr"].iloc[-1]
    return row


DRIFTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
EXACTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


def learned_prior(folder: Path) -> tuple[float, float]:
    """Scale of σ and share of exact laws, as in `hpt.metrics.bend`, likeliest on the ladders of a folder."""
    likelihoods = []
    for path in sorted(folder.iterdir()):
        for _, ladder in pd.read_csv(path).groupby("group"):
            try:
                report = transfer_report(ladder[["size", "lr", "loss"]], scale="size", bootstraps=100)
            except TableError:
                continue
            (group,) = report.groups
            if group.fit.law is not None:
                made = group.replicates.bend
                likelihoods.append(bend.likelihood_of_sigma(made.x_W, group.fit.left_W, made.variance_W))
    priors = itertools.product(DRIFTS, EXACTS)
    return max(priors, key=lambda prior: np.log(likelihoods @ bend.prior_of_sigma(*prior)).sum())


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage (%), alone and with the measured optimum's own uncertainty, width and error, octaves; the
    error and the bias are of those optima that every way predicts, and of n in all."""
    alike = rows[list(WAYS)].notna().all(axis=1)
    found = {}
    for way in WAYS:
        off = rows[way] - rows["measured"]
        figures = {"error": off[alike].abs().median(), "bias": off[alike].median()}
        if f"{way}_low" in rows:
            low = rows[way] - rows[f"{way}_low"]
            high = rows[f"{way}_high"] - rows[way]
            own_low = rows["measured"] - rows["measured_low"]
            own_high = rows["measured_high"] - rows["measured"]
            known = low.notna() & off.notna()
            plain = (off <= low) & (-off <= high)
            counted = (off <= np.hypot(low, own_high)) & (-off <= np.hypot(high, own_low))
            figures |= {
                "held": 100 * plain[known].mean(),
                "counted": 100 * counted[known].mean(),
                "below": 100 * (off > np.hypot(low, own_high))[known].mean(),
                "above": 100 * (-off > np.hypot(high, own_low))[known].mean(),
                "width": (low + high)[known].median(),
            }
        found[way] = figures | {"n": off.notna().sum()}
    return pd.DataFrame(found).T


def error_less(rows: pd.DataFrame, other: str) -> tuple[float, float, float]:
    """Median error of hpt less that of another way, on the optima that every way predicts, with its
    interval over bootstraps of them, octaves."""
    alike = rows.dropna(subset=list(WAYS))
    errors_Nx2 = alike[["hpt", other]].sub(alike["measured"], axis=0).abs().to_numpy()
    rng = np.random.default_rng(0)
    drawn_BxN = rng.integers(0, len(errors_Nx2), (2000, len(errors_Nx2)))
    less_B = -np.diff(np.median(errors_Nx2[drawn_BxN], axis=1)).ravel()
    estimate = -np.diff(np.median(errors_Nx2, axis=0)).item()
    return estimate, *np.percentile(less_B, [2.5, 97.5])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bootstraps", type=int, default=300)
    parser.add_argument("--rows", type=Path, help="also write every prediction to this .csv")
    parser.add_argument("--learn", type=Path, help="learn the prior of bends from the tables of this folder")
    options = parser.parse_args()
    if options.learn:
        drift, exact = learned_prior(options.learn)
        print(f"learned from {options.learn}: DRIFT {drift}, EXACT {exact}", flush=True)
        bend.prior_of_sigma = functools.partial(bend.prior_of_sigma, drift, exact)
    parts = []
    for path in sorted(options.folder.iterdir()):
        rows = held_out(pd.read_csv(path), options.bootstraps).assign(table=path.stem)
        parts.append(rows)
        print(f"\n{path.stem}\n{summary(rows).round(2).to_string()}", flush=True)
    every = pd.concat(parts, ignore_index=True)
    if options.rows:
        every.to_csv(options.rows, index=False)
    print("\nmeasured optimum held, %; with its own uncertainty counted; median width and error, octaves")
    print("(errors of the optima that all three predict)")
    for other in ("line", "unchanged"):
        more, low, high = error_less(every, other)
        print(f"median error of hpt less that of {other}: {more:+.3f} [{low:+.3f}, {high:+.3f}]")
    for name, rows in [("all", every), *((f"{k} sizes", r) for k, r in every.groupby("sizes"))]:
        print(f"\n{name}\n{summary(rows).round(2).to_string()}")


if __name__ == "__main__":
    main()
