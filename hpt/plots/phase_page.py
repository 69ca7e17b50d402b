"""The phase diagrams as one interactive HTML file: no network, no library, opens from disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hpt.metrics.intervals import Figure
from hpt.metrics.quantities import DECAYS, QUANTITIES, decay_column, estimate_text, group_name, value_text
from hpt.metrics.report import TransferReport
from hpt.plots.html_page import plain, write_html_page
from hpt.plots.phases import AXES, figure_range
from hpt.plots.style import color_of
from hpt.plots.wells import well_curve

TOLD = (*AXES, "beta", "octave_error")


def write_phase_page(
    report: TransferReport, path: str | os.PathLike, *, title: str = "Phase diagrams of transfer"
) -> Path:
    """Write the three phase diagrams of a report as one self-contained HTML page.

    Switches choose parameterizations and weight decays, hovering (or focus) tells figures with
    intervals and why one is not determined, a click (or Enter) opens the basins behind a point:
    runs, fitted wells, optima with intervals, on the axis of the hidden learning rate or of μP's
    convention.

    Returns
    -------
    The path written.
    """
    return write_html_page("phases.html", page_data(report, title), path)


def page_data(report: TransferReport, title: str) -> dict[str, Any]:
    """What the page draws, as plain numbers; None for nan, ±1e308 for ±inf."""
    frame = report.to_frame()
    groups = zip(report.groups, frame.to_dict("records"), strict=True)
    return plain(
        {
            "title": title,
            "scale": report.scale,
            "level": f"{100 * report.level:g} %",
            "reference": report.reference,
            "ranges": {name: figure_range(frame, name) for name in AXES},
            "labels": {name: QUANTITIES[name].labelled(report.unit) for name in AXES},
            "unit": report.unit,
            "decay_symbol": DECAYS.get(decay_column(report.group_columns)),
            "symbols": {name: QUANTITIES[name].symbol for name in TOLD},
            "groups": [_group(report, group, row) for group, row in groups],
            "notes": report.notes,
        }
    )


def _group(report, group, row):
    """A point of the diagrams and the basins behind it."""
    columns = report.group_columns
    decay = decay_column(columns)
    variant = group_name(row, [column for column in columns if column != decay])
    figures = {name: Figure.from_row(row, name) for name in TOLD}
    return {
        "name": group_name(row, columns),
        "variant": variant,
        "decay": value_text(row[decay]) if decay else "",
        "color": color_of(str(row.get("parameterization", variant))),
        "figures": {name: vars(figure) | {"text": str(figure)} for name, figure in figures.items()},
        "wells": _wells(report, group),
    }


def _wells(report, group):
    """The basin of every width of a group with its runs, and the fitted curve where there is one."""
    key = list(group.key)
    columns = list(report.group_columns)
    table = report.table[(report.table[columns] == key).all(axis=1)]
    wells = report.basins[(report.basins[columns] == key).all(axis=1)].to_dict("records")
    for well in wells:
        runs = table[table[report.scale] == well[report.scale]]
        optimum = well["log2_lr"], well["log2_lr_low"], well["log2_lr_high"]
        well["text"] = estimate_text(*optimum, well["determined"])
        well["runs"] = runs[["log2_lr", "loss"]].to_numpy().tolist()
        well["curve"] = well_curve(report, well).T.tolist()
    return wells
