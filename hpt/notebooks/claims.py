"""The claims of Kalra & Barkeshli 2026 held against the runs at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import pandas as pd
from numpy import hypot, isfinite, isinf, isnan, log, nan, sqrt

from hpt.analysis.compare import gap_closed
from hpt.metrics.intervals import Z_95, Figure
from hpt.metrics.quantities import decay_column
from hpt.metrics.report import TransferReport
from hpt.runs.result import RunResult

#: How far above the best learning rate the price of a mistake is taken, in octaves.
MISTAKE_OCTAVES = 2
#: As Kalra & Barkeshli publish it on their analysis page.
PAPER_E = "E 0.0486 for SP, 0.0029 for SP+Embd, 0.0011 for μP (weight decay 0)"


class Verdict(StrEnum):
    """What the runs say of a claim. The report's style sheet colours each by its name."""

    HOLDS = "holds"
    FAILS = "does not hold here"
    UNDETERMINED = "undetermined"
    NOT_RUN = "not run"


class Answer(NamedTuple):
    """What came out, the verdict, and where there is none, why."""

    came_out: str
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, held against runs.

    Attributes
    ----------
    source: whose: "Kalra & Barkeshli" or "Lingle".
    claim: in a sentence, with the paper's letter.
    paper: what the paper found.
    figure: the figure behind the verdict.
    expected: what we expected before the runs; "" where nothing was written down.
    answer: what came out.
    runs: that it was tested on, with their size.
    """

    source: str
    claim: str
    paper: str
    figure: str
    expected: str
    answer: Answer
    runs: str


#: Whose claims these are, as the report says it.
KALRA = "Kalra & Barkeshli"
_NOT_RUN = Answer("", Verdict.NOT_RUN, "this study lacks SP, SP+Embd or μP")


def check_claims(results: Sequence[RunResult], report: TransferReport, runs: str) -> list[Claim]:
    """The claims (a) and (b) of Kalra & Barkeshli, held against the results and the report of one study.

    Parameters
    ----------
    runs: what to call them, with their size.
    """
    asked = (
        (
            "(a, b) SP trains unstably, Embd alone smooths it: at this warm-up",
            "SP's loss curves are rough and spike",
            "price of two octaves too much, SP's less SP+Embd's",
            _instability(results, report),
        ),
        (
            "(a) SP's runs lie further from one law of width than μP's (E)",
            PAPER_E,
            "E, SP against μP",
            _fit_errors(report, "μP"),
        ),
        (
            "(b) Embd alone lowers E towards that of μP",
            PAPER_E,
            "E, SP against SP+Embd",
            _fit_errors(report, "SP+Embd"),
        ),
        (
            "(b) Embd alone brings the loss near that of μP",
            "SP+Embd closes most of the gap from SP to μP",
            "share of the gap at the largest width",
            _share_of_gap(report),
        ),
    )
    return [
        Claim(KALRA, claim, paper, figure, expected="", answer=answer, runs=runs)
        for claim, paper, figure, answer in asked
    ]


def price_of_mistake(table: pd.DataFrame, octaves: int = MISTAKE_OCTAVES) -> pd.DataFrame:
    """Loss at a learning rate some octaves above the best, minus the loss at the best, in nats.

    Parameters
    ----------
    table: a study's table. Means over seeds are taken, and the best is the best of the grid.
    octaves: how far above.

    Returns
    -------
    One row a parameterization and width: log2_lr of the best, and price, which is inf where the
    run diverged and nan where the grid ends before.
    """
    rows = []
    for cell, runs in table.groupby(["parameterization", "width"], sort=False):
        loss = runs.groupby("log2_lr")["loss"].mean()
        best = loss.idxmin()
        rows.append((*cell, best, loss.get(best + octaves, nan) - loss[best]))
    return pd.DataFrame(rows, columns=["parameterization", "width", "log2_lr", "price"])


def best_runs(results: Sequence[RunResult]) -> dict[tuple[str, int], RunResult]:
    """For each (parameterization, width) the run of the first seed with the lowest validation
    loss."""
    first_seed = min(r.config.seed for r in results)
    best = {}
    for run in results:
        if run.config.seed == first_seed:
            key = run.config.parameterization.name, run.config.model.width
            best[key] = min(best.get(key, run), run, key=lambda r: r.val_loss)
    return best


def _instability(results, report):
    """Does SP forgive less than SP+Embd at the largest width, at the warm-up of these runs?

    The interval of the difference is that of four single runs, two of each, with the noise of theirs.
    """
    table = pd.DataFrame([r.row() for r in results])
    if not {"SP", "SP+Embd", "μP"} <= set(table["parameterization"]):
        return _NOT_RUN
    width = table["width"].max()
    widest = table[table["width"] == width]
    price = price_of_mistake(widest).set_index("parameterization")["price"]
    more = price["SP"] - price["SP+Embd"]
    noise = report.laws.groupby("parameterization")["noise"].median()
    of_both = hypot(noise["SP"], noise["SP+Embd"])
    doubt = Z_95 * sqrt(2) * of_both
    train = results[0].config.train
    prices = ", ".join(f"{name} {_price_text(price[name])}" for name in ("SP", "SP+Embd", "μP"))
    came_out = (
        f"at width {width} and a warm-up of {train.warmup_steps} of {train.steps} steps, a learning rate "
        f"{MISTAKE_OCTAVES} octaves too high costs {prices}; SP's price less SP+Embd's is "
        f"{more:.2f} ± {doubt:.2f}; {table['diverged'].sum()} of {len(table)} runs diverged"
    )
    if isnan(more):
        return Answer(came_out, Verdict.UNDETERMINED, "the grid ends before")
    return _whole_above(0, more - doubt, more + doubt, came_out, "within the noise of a run")


def _whole_above(bound, low, high, came_out, otherwise):
    """Holds if the whole interval lies above the bound, and fails if it lies below."""
    if low > bound:
        return Answer(came_out, Verdict.HOLDS)
    if high < bound:
        return Answer(came_out, Verdict.FAILS)
    return Answer(came_out, Verdict.UNDETERMINED, otherwise)


def _price_text(price):
    if isinf(price):
        return "divergence"
    if isnan(price):
        return "unknown (the grid ends)"
    return f"{price:.2f} nats"


def _fit_errors(report, better):
    """Is E of SP above that of a better parameterization, at the smallest weight decay?"""
    table = report.to_frame().sort_values(decay_column(report.group_columns), ascending=False)
    E = {row["parameterization"]: Figure.from_row(row, "E") for row in table.to_dict("records")}
    if not {"SP", better} <= set(E):
        return _NOT_RUN
    sp = E["SP"]
    other = E[better]
    ratio = sp.estimate / other.estimate
    came_out = f"E {sp} for SP and E {other} for {better}: {ratio:.1f}×"
    came_out += _misses(report, ("SP", better))
    for figure in (sp, other):
        if not figure.determined:
            return Answer(came_out, Verdict.UNDETERMINED, figure.reason)
    return _whole_above(0, sp.low - other.high, sp.high - other.low, came_out, "the intervals overlap")


def _misses(report, names):
    """How far off η* of the largest width is predicted from the smaller ones, and what that costs there."""
    rows = report.to_frame().drop_duplicates("parameterization")
    off = rows.set_index("parameterization")["octave_error"]
    wells = report.basins.sort_values("width").drop_duplicates("parameterization", keep="last")
    curvature = wells.set_index("parameterization")["curvature"]
    told = []
    for name in names:
        octaves = off[name]
        distance = octaves * log(2)
        cost = curvature[name] * distance**2 / 2
        told.append(f"{octaves:.2f} octaves for {name}, which costs {cost:.3f} nats")
    return f"; left out, η* of the largest width is missed by {' and by '.join(told)}"


def _share_of_gap(report):
    """Does SP+Embd close most of the gap from SP to μP, at the largest width and least weight decay?"""
    if not {"SP", "SP+Embd", "μP"} <= set(report.basins["parameterization"]):
        return _NOT_RUN
    shares = gap_closed(report)
    order = ["width", decay_column(report.group_columns)]
    widest = shares.sort_values(order, ascending=[False, True]).iloc[0]
    low = widest["share_low"]
    high = widest["share_high"]
    came_out = (
        f"at width {widest['width']} it closes {widest['share']:.0%} [{low:.0%}, {high:.0%}] "
        f"of a gap of {widest['gap']:.3f} nats"
    )
    if not isfinite([low, high]).all():
        return Answer(came_out, Verdict.UNDETERMINED, widest["reason"])
    return _whole_above(0.5, low, high, came_out, "the interval holds one half")
