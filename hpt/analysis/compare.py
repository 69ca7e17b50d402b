"""How much of the gap between two parameterizations a third closes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpt.errors import TableError
from hpt.metrics.figures import Figure, plain_number, table_of
from hpt.metrics.replicates import interval
from hpt.metrics.transfer import TransferReport, plain_name


def gap_closed(report: TransferReport, *, from_: str = "SP", by: str = "SP+Embd", to: str = "μP") -> pd.DataFrame:
    """Share of the loss gap between two parameterizations that a third closes: (L_from − L_by)/(L_from − L_to).

    The replicates are paired: noise that runs of one seed and width share cancels.

    Returns
    -------
    DataFrame, one row for each width and value of the other group columns: share, share_low, share_high, gap (nats,
    L_from − L_to), determined, reason, method (how the interval was made), n (runs in the three basins).
    """
    first, *others = report.group_columns or ("parameterization",)
    found: dict[tuple, dict[str, int]] = {}
    for index, fit in enumerate(report._fits):
        for role, name in (("from", from_), ("by", by), ("to", to)):
            if fit.key and plain_name(fit.key[0]) == plain_name(name):
                found.setdefault(fit.key[1:], {})[role] = index
    complete = {rest: roles for rest, roles in found.items() if len(roles) == 3}
    if not complete:
        known = [str(f.key[0]) for f in report._fits if f.key]
        absent = [n for n in (from_, by, to) if plain_name(n) not in map(plain_name, known)]
        raise TableError(f"No setting has all of {from_!r}, {by!r} and {to!r} in column {first!r}.",
                         f"{absent[0]!r} is not in the table; known: {sorted(set(known))}" if absent else "",
                         "gap_closed(report, from_=…, by=…, to=…)")
    rows = []
    for _rest, roles in complete.items():
        fits, drawn = ([source[roles[r]] for r in ("from", "by", "to")] for source in (report._fits, report._drawn))
        shared = set.intersection(*(set(f.points.scale_W) for f in fits))
        rows.append([{report.scale: plain_number(n)} | _share(fits, drawn, n, report.level) for n in sorted(shared)])
    return table_of(list(complete), tuple(others), rows)


def _share(fits, drawn, scale: float, level: float) -> dict:
    at = [int(np.flatnonzero(f.points.scale_W == scale)[0]) for f in fits]
    reasons = [f.points.reason_W[w] for f, w in zip(fits, at, strict=True) if f.points.reason_W[w]]
    L = [f.loss_W[w] for f, w in zip(fits, at, strict=True)]
    if reasons:
        figure = Figure.nothing(reasons[0])
    elif any(d is None for d in drawn):
        figure = Figure.of((L[0] - L[1]) / (L[0] - L[2]), (np.nan, np.nan))
    else:
        L_B = [d.loss_BxW[:, w].astype(float) for d, w in zip(drawn, at, strict=True)]
        gap_low, gap_high = interval(L_B[0] - L_B[2], level)
        reason = "" if gap_low > 0 else "the gap is not told from zero" if gap_high > 0 else "the gap is below zero"
        ends = interval((L_B[0] - L_B[1]) / (L_B[0] - L_B[2]), level)
        figure = Figure.of((L[0] - L[1]) / (L[0] - L[2]), ends, reason)
    return {"share": figure.estimate, "share_low": figure.low, "share_high": figure.high, "gap": L[0] - L[2],
            "determined": figure.determined, "reason": figure.reason,
            "method": drawn[0].method if all(drawn) and not reasons else "",
            "n": int(sum((f.points.weight_WxP[w] > 0).sum() for f, w in zip(fits, at, strict=True)))}
