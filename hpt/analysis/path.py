"""From one parameterization to another a switch at a time: what each step gains.

Letters: B replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from hpt.analysis.compare import common_widths, groups_of, losses_at
from hpt.errors import TableError
from hpt.metrics.intervals import Figure, interval
from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import plain_number, table_of

#: SP, then its switches in the order of what the paper says that they do.
PATH = ("SP", "SP+Embd", "SP+Attn+Embd", "μP-LN", "μP")


def gap_steps(report: TransferReport, *, path: Sequence[str] = PATH) -> pd.DataFrame:
    """What each step of a path of parameterizations gains: L*(before) − L*(after).

    Replicates are paired: noise that runs of one seed and width share cancels. The steps of a path add
    up to the gap between its ends; in another order each step may gain another part of it, which
    :func:`hpt.effects` averages over.

    Parameters
    ----------
    path: names, from the first parameterization to the last.

    Returns
    -------
    DataFrame, one row for each value of the other group columns, width and step: from, to, gain (nats,
    below zero where the step costs), gain_low, gain_high, share (of the whole gap), determined (told
    from zero), reason, method, n (runs in the two basins); `attrs["unit"]` is that of the losses.

    Raises
    ------
    TableError: for a path of fewer than two names, or one that no setting has.
    """
    if len(path) < 2:
        raise TableError(
            f"path={list(path)} has no step.", remedy="gap_steps(report, path=('SP', 'SP+Embd', 'μP'))"
        )
    rows = {rest: _rows(groups, report, path) for rest, groups in groups_of(report, path).items()}
    table = table_of(report.group_columns[1:], rows)
    table.attrs["unit"] = report.unit
    return table


def _rows(groups, report, path):
    rows = []
    for width in common_widths(groups):
        steps = [_gain(*pair, width, report.level) for pair in pairwise(groups)]
        whole = _gain(groups[0], groups[-1], width, report.level).estimate
        for (before, after), figure in zip(pairwise(path), steps, strict=True):
            row = {report.scale: plain_number(width), "from": before, "to": after}
            row |= figure.interval("gain") | {"share": figure.estimate / whole}
            rows.append(row | figure.verdict())
    return rows


def _gain(before, after, width, level):
    """L* of a group minus that of another at one width, nats."""
    losses, drawn, runs, missing = losses_at((before, after), width)
    if missing:
        return Figure.nothing(missing, runs)
    loss_before, loss_after = losses
    before_B, after_B = drawn
    low, high = interval(before_B - after_B, level)
    reason = ""
    if low <= 0 <= high:
        reason = "not told from zero"
    gain = loss_before - loss_after
    return Figure.of(gain, (low, high), reason, before.method, runs)
