"""The phase diagrams as one interactive HTML file: no network, no library, opens from disk."""

from __future__ import annotations

import json
import math
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpt.metrics.basin import LN2, well_loss
from hpt.metrics.quantities import QUANTITIES, estimate_text, group_name
from hpt.metrics.report import Group, TransferReport
from hpt.metrics.verdicts import Figure, plain_number
from hpt.plots.phases import AXES, figure_range
from hpt.plots.style import color_of

MARK = "/*DATA*/null"
TOLD = (*AXES, "beta", "octave_error")
REACH = 2.5  # octaves about an optimum within which its well is drawn
CURVE_POINTS = 81


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
    page = resources.files("hpt.plots").joinpath("phases.html").read_text(encoding="utf-8")
    data = json.dumps(
        page_data(report, title), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.replace(MARK, data.replace("</", "<\\/")), encoding="utf-8")
    return path


def page_data(report: TransferReport, title: str) -> dict[str, Any]:
    """What the page draws, as plain numbers; None for nan, ±1e308 for ±inf."""
    frame = report.to_frame()
    rows = frame.to_dict("records")
    return {
        "title": title,
        "scale": report.scale,
        "level": f"{100 * report.level:g} %",
        "reference": report.reference,
        "ranges": {name: figure_range(frame, name) for name in AXES},
        "labels": {name: QUANTITIES[name].label for name in AXES},
        "symbols": {name: QUANTITIES[name].symbol for name in TOLD},
        "groups": [_group(report, *pair) for pair in zip(report.groups, rows, strict=True)],
        "notes": list(report.notes),
    }


def _group(report: TransferReport, group: Group, row: dict[str, Any]) -> dict[str, Any]:
    """A point of the diagrams and the basins behind it."""
    columns = report.group_columns
    variant = group_name(row, [column for column in columns if column != "weight_decay"])
    return {
        "name": group_name(row, columns),
        "variant": variant,
        "decay": f"{row['weight_decay']:g}" if "weight_decay" in columns else "",
        "color": color_of(str(row.get("parameterization", variant))),
        "figures": {name: _figure(Figure.from_row(row, name)) for name in TOLD},
        "wells": _wells(report, group),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "value": _plain(figure.estimate),
        "low": _plain(figure.low),
        "high": _plain(figure.high),
        "sure": bool(figure.determined),
        "why": figure.reason,
        "text": estimate_text(figure.estimate, figure.low, figure.high, figure.determined),
    }


def _wells(report: TransferReport, group: Group) -> list[dict[str, Any]]:
    """The runs and the well of every width of a group."""
    table = report.table
    basins = report.basins
    for column, value in zip(report.group_columns, group.key, strict=True):
        table = table[table[column] == value]
        basins = basins[basins[column] == value]
    wells = []
    for well in basins.to_dict("records"):
        runs = table[table[report.scale] == well[report.scale]]
        optimum = [well[name] for name in ("log2_lr", "log2_lr_low", "log2_lr_high")]
        lr, low, high = map(_plain, optimum)
        wells.append(
            {
                "n": plain_number(well[report.scale]),
                "lr": lr,
                "low": low,
                "high": high,
                "loss": _plain(well["loss"]),
                "curve": _curve(well, runs["log2_lr"], group.fit.skew),
                "edge": well["edge"],
                "why": well["reason"],
                "text": estimate_text(*optimum, well["determined"]),
                "runs": _points(runs["log2_lr"], runs["loss"]),
            }
        )
    return wells


def _curve(well: dict[str, Any], tried: pd.Series, skew: float) -> list[list[float | None]]:
    """The fitted well about its optimum, as far as learning rates were tried; empty without one."""
    if math.isnan(well["curvature"]):
        return []
    first = max(well["log2_lr"] - REACH, tried.min())
    last = min(well["log2_lr"] + REACH, tried.max())
    log2_lr = np.linspace(first, last, CURVE_POINTS)
    u = (log2_lr - well["log2_lr"]) * LN2
    return _points(log2_lr, well_loss(u, well["loss"], well["curvature"], skew))


def _points(log2_lr, loss) -> list[list[float | None]]:
    return [[_plain(x), _plain(y)] for x, y in zip(log2_lr, loss, strict=True)]


def _plain(value: float) -> float | None:
    """To seven digits, as JSON can hold it."""
    if math.isnan(value):
        return None
    return float(f"{np.clip(value, -1e308, 1e308):.7g}")
