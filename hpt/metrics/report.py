"""How a transfer report prints: a small table in a terminal and in Jupyter."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hpt.metrics.group import GroupFit
from hpt.metrics.noise import Noise
from hpt.metrics.quantities import QUANTITIES, estimate_text
from hpt.metrics.replicates import Replicates

SHOWN = ("E", "E_extrap", "octave_error", "beta", "kappa", "R")
LONGEST = 12  # remarks


def _content(
    report: TransferReport,
) -> tuple[list[str], list[list[str]], list[list[bool]], list[str]]:
    """Header, cells, which cells are determined, and the reasons."""
    header = [*(report.group_columns or ("sweep",)), *(QUANTITIES[f].label for f in SHOWN)]
    cells, sure, because = [], [], {}
    for row in report.figures.to_dict("records"):
        names = [
            f"{row[c]:g}" if isinstance(row[c], float) else str(row[c])
            for c in report.group_columns
        ] or ["all"]
        triples = [
            estimate_text(row[f], row[f"{f}_low"], row[f"{f}_high"], row[f"{f}_determined"])
            for f in SHOWN
        ]
        cells.append(names + triples)
        sure.append([True] * len(names) + [row[f"{f}_determined"] for f in SHOWN])
        for figure in SHOWN:
            if not row[f"{figure}_determined"]:
                because.setdefault((" ".join(names), row[f"{figure}_reason"]), []).append(
                    QUANTITIES[figure].symbol
                )
    reasons = [
        f"{name}: {', '.join(titles)} not determined ({reason})"
        for (name, reason), titles in because.items()
    ]
    return header, cells, sure, reasons + list(report.notes)


def _title(report: TransferReport) -> str:
    scales = sorted(report.basins[report.scale].unique())
    against = f"; R against {report.reference}" if report.reference else ""
    return f"Transfer over {report.scale} {scales[0]} to {scales[-1]}, {100 * report.level:g} % intervals{against}"


def as_text(report: TransferReport) -> str:
    """The report as plain text."""
    header, cells, _, remarks = _content(report)
    widths = [max(len(r[i]) for r in [header, *cells]) for i in range(len(header))]
    lines = [
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in [header, *cells]
    ]
    if len(remarks) > LONGEST:
        remarks = [
            *remarks[:LONGEST],
            f"… and {len(remarks) - LONGEST} more: report.to_frame(), report.notes",
        ]
    return "\n".join([_title(report), *lines, *("  " + remark for remark in remarks)])


def as_html(report: TransferReport) -> str:
    """The report as an HTML fragment; what is not determined is grey."""
    header, cells, sure, remarks = _content(report)
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    opening = {True: "<td>", False: '<td style="color:#888">'}
    body = ""
    for row, flags in zip(cells, sure, strict=True):
        texts = zip(map(html.escape, row), flags, strict=True)
        body += "<tr>" + "".join(f"{opening[bool(ok)]}{text}</td>" for text, ok in texts) + "</tr>"
    notes = "".join(f"<li>{html.escape(r)}</li>" for r in remarks)
    table = (
        f"<table><caption>{html.escape(_title(report))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
    return f'<div style="overflow-x:auto">{table}{f"<ul>{notes}</ul>" if notes else ""}</div>'


@dataclass(frozen=True, eq=False)
class Group:
    """One group of a report and all that is known of it.

    Attributes
    ----------
    fit: its wells and its law.
    noise: of one run.
    replicates: of its figures; None where the noise is unknown.
    reference: index in the report of the group that its R compares with.
    """

    fit: GroupFit
    noise: Noise
    replicates: Replicates | None
    reference: int

    @property
    def key(self) -> tuple[Any, ...]:
        """Values of the group columns."""
        return self.fit.key


@dataclass(frozen=True, eq=False)
class TransferReport:
    """What a sweep says about transfer. Prints as a small table; nan and a named reason where
    nothing is determined.

    Attributes
    ----------
    table: the checked table: group columns, the scale, log2_lr, loss (nats, inf where diverged),
        seed.
    basins: one row a group and width: log2_lr (η*), loss (L*, nats), curvature (h, nats per (ln
        η)²), each with _low and _high; edge "", "low" or "high"; determined, reason, method, n
        (runs fitted).
    penalty: one row a group and width: R(n) in nats with R_low, R_high, R_determined, R_reason,
        R_method, R_n (runs).
    laws: one row a group: L_inf and A of the fitted law (nats), η* at width 1 in log2, α, β, γ_log,
        skew of the basin, noise (nats, one run) and common_noise (the part that runs of one seed
        and width share), inflation of the intervals by misfit of the law.
    reference: the group that R compares with; "" where it is the named parameterization at equal
        other settings.
    scale, group_columns, level, bootstraps: as asked for.
    notes: what was left out or assumed.
    groups: each group with its fit, noise, replicates and reference, in the order of the tables.
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

    def to_frame(self) -> pd.DataFrame:
        """One row a group: group columns, then E, E_extrap (nats), octave_error, kappa, alpha,
        beta, gamma, gamma_log and R (R(∞), nats), each with _low, _high, _determined, _reason,
        _method (how the interval was made) and _n (how many runs or widths it rests on), as in
        :mod:`hpt.metrics.verdicts`."""
        return self.figures.copy()

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)
