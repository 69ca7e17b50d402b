"""The claims of Kalra & Barkeshli 2026 held against the runs at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpt.analysis.compare import gap_closed
from hpt.metrics.report import TransferReport
from hpt.runs.result import RunResult
from hpt.runs.stability import roughness

#: How far above the best learning rate the price of a mistake is taken, in octaves.
MISTAKE_OCTAVES = 2
#: E at weight decay 0 as Kalra & Barkeshli publish it on their analysis page.
PAPER_E = {"SP": 0.0486, "SP+Embd": 0.0029, "μP": 0.0011}
_UNSTABLE = ("SP trains unstably, Embd alone smooths it", "SP's loss curves are rough and spike")


def price_of_mistake(table: pd.DataFrame, octaves: int = MISTAKE_OCTAVES) -> pd.DataFrame:
    """Loss at a learning rate some octaves above the best, minus the loss at the best, nats.

    Parameters
    ----------
    table: a study's table; means over seeds are taken, and the best is the best of the grid.
    octaves: how far above.

    Returns
    -------
    One row a parameterization and width: log2_lr of the best, price (inf where the run diverged,
        nan where
    the grid ends before).
    """
    rows = []
    for (name, width), cell in table.groupby(["parameterization", "width"], sort=False):
        means = cell.groupby("log2_lr")["loss"].mean()
        best = means.idxmin()
        price = means.get(best + octaves, np.nan) - means[best]
        rows.append({"parameterization": name, "width": width, "log2_lr": best, "price": price})
    return pd.DataFrame(rows)


def best_runs(results: Sequence[RunResult]) -> dict[tuple[str, int], RunResult]:
    """For each (parameterization, width) the run of the first seed with the lowest validation
    loss."""
    best: dict[tuple[str, int], RunResult] = {}
    first = min(r.config.seed for r in results)
    for r in results:
        key = (str(r.config.parameterization), r.config.model.width)
        if r.config.seed == first and (key not in best or r.val_loss < best[key].val_loss):
            best[key] = r
    return best


def claims(results: Sequence[RunResult], report: TransferReport) -> pd.DataFrame:
    """Claims of the paper, what it says, what came out here, and a verdict.

    Parameters
    ----------
    results, report: of one study.

    Returns
    -------
    Columns claim, paper, came out, verdict; a claim whose runs are missing says "not run".
    """
    table = pd.DataFrame([r.row() for r in results])
    figures = report.to_frame()
    figures = figures[figures["weight_decay"] == figures["weight_decay"].min()].set_index(
        "parameterization"
    )
    have, width = set(figures.index), int(table["width"].max())
    rows = [
        _unstable(table, results, width)
        if {"SP", "SP+Embd", "μP"} <= have
        else _missing(*_UNSTABLE)
    ]
    rows.append(_fit_error(figures, "SP's optimal learning rate is poorly predictable", "μP"))
    rows.append(_fit_error(figures, "Embd alone lowers E towards that of μP", "SP+Embd"))
    rows.append(
        _gap(
            report,
            width,
            "Embd alone brings the loss near that of μP",
            "SP+Embd",
            "SP+Embd closes most of the gap from SP to μP",
            holds=lambda low, high: low > 0.5,
        )
    )
    rows.append(
        _gap(
            report,
            width,
            "μP without Embd loses its advantage",
            "μP-Embd",
            "μP-Embd is no better than SP",
            holds=lambda low, high: high < 0.5,
        )
    )
    swept = table["weight_decay"].nunique() > 1
    for claim, paper in (
        ("weight decay lowers E for SP", "E falls as weight decay grows"),
        ("at fixed tokens per parameter weight decay raises κ", "κ rises with weight decay"),
    ):
        rows.append(
            _missing(
                claim, paper, "see the table of E and κ" if swept else "needs several weight decays"
            )
        )
    return pd.DataFrame(rows, columns=["claim", "paper", "came out", "verdict"])


def _missing(
    claim: str, paper: str, why: str = "needs other parameterizations than this study has"
) -> tuple:
    return claim, paper, why, "not run"


def _unstable(table: pd.DataFrame, results: Sequence[RunResult], width: int) -> tuple:
    price = price_of_mistake(table).set_index(["parameterization", "width"])["price"]
    best = best_runs(results)
    rough = {name: roughness(best[name, width], best["μP", width]) for name in ("SP", "SP+Embd")}
    sp, embd = price["SP", width], price["SP+Embd", width]
    came = (
        f"at width {width} a learning rate {MISTAKE_OCTAVES} octaves too high costs SP {_nats(sp)}, "
        f"SP+Embd {_nats(embd)}; at the optimum SP's loss moves {rough['SP']:.3f} nats a step against μP's, "
        f"SP+Embd's {rough['SP+Embd']:.3f}"
    )
    holds = sp > 2 * embd and rough["SP"] > 1.2 * rough["SP+Embd"]
    return *_UNSTABLE, came, _verdict(holds)


def _nats(value: float) -> str:
    return (
        "divergence"
        if np.isinf(value)
        else "unknown (the grid ends)"
        if np.isnan(value)
        else f"{value:.2f} nats"
    )


def _fit_error(figures: pd.DataFrame, claim: str, better: str) -> tuple:
    """E of SP against that of a better parameterization."""
    paper = ", ".join(f"{e:g} for {name}" for name, e in PAPER_E.items())
    paper = f"E {paper} (weight decay 0)"
    if not {"SP", better} <= set(figures.index):
        return _missing(claim, paper)
    a, b = figures.loc["SP"], figures.loc[better]
    if not (a["E_determined"] and b["E_determined"]):
        reason = a["E_reason"] or b["E_reason"]
        return claim, paper, f"E is not determined: {reason}", "not determined"
    came = " and ".join(
        f"E {r['E']:.4f} [{r['E_low']:.4f}, {r['E_high']:.4f}] for {name}"
        for name, r in (("SP", a), (better, b))
    )
    return (
        claim,
        paper,
        came + f": {a['E'] / b['E']:.1f}×",
        _verdict(a["E_low"] > b["E_high"], a["E"] > b["E"]),
    )


def _gap(report: TransferReport, width: int, claim: str, by: str, paper: str, holds) -> tuple:
    names = set(report.basins["parameterization"])
    if not {"SP", by, "μP"} <= names:
        return _missing(claim, paper, f"needs SP, {by} and μP")
    row = gap_closed(report, by=by).set_index("width").loc[width]
    if not np.isfinite([row["share_low"], row["share_high"]]).all():
        return claim, paper, f"not determined at width {width}: {row['reason']}", "not determined"
    came = (
        f"at width {width} it closes {row['share']:.0%} [{row['share_low']:.0%}, {row['share_high']:.0%}] "
        f"of a gap of {row['gap']:.3f} nats"
    )
    return claim, paper, came, _verdict(holds(row["share_low"], row["share_high"]))


def _verdict(holds: bool, perhaps: bool = False) -> str:
    return (
        "holds"
        if holds
        else "points that way, within the noise"
        if perhaps
        else "does not hold here"
    )
