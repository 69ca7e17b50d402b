"""The transfer report: all tables of a sweep's figures, printed as one small table."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd

from hpt.metrics.intervals import Figure
from hpt.metrics.quantities import QUANTITIES, group_name, value_text
from hpt.metrics.verdicts import Group

SHOWN = ("E", "E_extrap", "octave_error", "beta", "kappa", "R")
MOST_REMARKS = 12


@dataclass(frozen=True, eq=False)
class TransferReport:
    """What a sweep says about transfer.

    It prints as a small table, with nan and a named reason where nothing is determined.

    Attributes
    ----------
    table: the checked table: group columns, the scale, log2_lr, loss (inf where diverged), seed.
    figures: what :meth:`to_frame` gives.
    basins: one row a group and width: log2_lr (η*), loss (L*, nats), curvature (h, nats per (ln
        η)²), each with _low and _high; edge "", "low" or "high"; determined, reason, method, n
        (runs fitted).
    penalty: one row a group and width: R(n) in nats with R_low, R_high, R_determined, R_reason,
        R_method, R_n (runs).
    laws: one row a group: L_inf and A of the fitted law (nats), η* at width 1 in log2, α, β, γ_log,
        skew of the basin, noise (nats, one run) and common_noise (the part that runs of one seed
        and width share), inflation of the intervals by misfit of the law, drift (σ of the bend of
        η*, octaves an octave per √octave).
    reference: the group that R compares with, or the values that name it; "" in a table of one
        group without a name.
    scale, group_columns, level, bootstraps: as asked for.
    notes: what was left out or assumed.
    groups: each group with its fit, noise, replicates and reference, in the order of the tables.
    unit: of the losses: "nats", or "error", a share of mistakes.
    """

    table: pd.DataFrame
    figures: pd.DataFrame
    basins: pd.DataFrame
    penalty: pd.DataFrame
    laws: pd.DataFrame
    reference: str
    scale: str
    group_columns: tuple[str, ...]
    level: float
    bootstraps: int
    notes: tuple[str, ...]
    groups: tuple[Group, ...]
    unit: str = "nats"

    def to_frame(self) -> pd.DataFrame:
        """One row a group: group columns, then E, E_extrap (nats), octave_error, kappa, alpha,
        beta, gamma, gamma_log and R (R(∞), nats), each with _low, _high, _determined, _reason,
        _method (how the interval was made) and _n (how many runs or widths it rests on), as in
        :mod:`hpt.metrics.verdicts`."""
        return self.figures.copy()

    def __repr__(self) -> str:
        rows = [_header(self), *_rows(self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        remarks = _remarks(self)
        more = len(remarks) - MOST_REMARKS
        if more > 0:
            remarks[MOST_REMARKS:] = [f"… and {more} more: report.to_frame(), report.notes"]
        return "\n".join([_title(self), *lines, *("  " + remark for remark in remarks)])

    def _repr_html_(self) -> str:
        table = pd.DataFrame(_rows(self), columns=_header(self)).to_html(index=False)
        remarks = "".join(f"<li>{escape(remark)}</li>" for remark in _remarks(self))
        return f"<p>{escape(_title(self))}</p>{table}<ul>{remarks}</ul>"


def _title(report):
    scales = report.basins[report.scale]
    title = f"Transfer over {report.scale} {scales.min()} to {scales.max()}"
    against = f"; R against {report.reference}" if report.reference else ""
    return f"{title}, {100 * report.level:g} % intervals{against}"


def _header(report):
    columns = report.group_columns or ("sweep",)
    return [*columns, *(QUANTITIES[figure].labelled(report.unit) for figure in SHOWN)]


def _rows(report):
    """A row a group: the text of each cell."""
    rows = []
    for row in report.figures.to_dict("records"):
        names = [value_text(row[column]) for column in report.group_columns] or ["all"]
        rows.append(names + [str(Figure.from_row(row, name)) for name in SHOWN])
    return rows


def _remarks(report):
    """What is not determined and why, a line a group and reason; then the report's notes."""
    symbols = {}
    for row in report.figures.to_dict("records"):
        group = group_name(row, report.group_columns)
        for name in SHOWN:
            reason = row[f"{name}_reason"]
            if reason:
                symbols.setdefault((group, reason), []).append(QUANTITIES[name].symbol)
    undetermined = [
        f"{group}: {', '.join(names)} not determined ({reason})" for (group, reason), names in symbols.items()
    ]
    return undetermined + list(report.notes)
