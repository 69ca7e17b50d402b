"""The phase diagrams as one interactive HTML file: no network, no library, opens from disk."""

from __future__ import annotations

import json
import math
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hpt.metrics.quantities import estimate_text, group_name
from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import plain_number
from hpt.plots.phases import AXES, figure_range
from hpt.plots.style import color_of_variant

TEMPLATE = "phases.html"
MARK = "/*DATA*/null"


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
    page = resources.files("hpt.plots").joinpath(TEMPLATE).read_text(encoding="utf-8")
    data = json.dumps(
        page_data(report, title), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.replace(MARK, data.replace("</", "<\\/")), encoding="utf-8")
    return path


def page_data(report: TransferReport, title: str) -> dict[str, Any]:
    """What the page draws, as plain numbers; None for nan, ±1e308 for ±inf."""
    frame, columns = report.to_frame(), report.group_columns
    groups = []
    for g, row in enumerate(frame.to_dict("records")):
        variant = (
            str(row["parameterization"])
            if "parameterization" in columns
            else group_name(row, tuple(c for c in columns if c != "weight_decay"))
        )
        rest = tuple(c for c in columns if c not in ("parameterization", "weight_decay"))
        if rest and "parameterization" in columns:
            variant += " " + group_name(row, rest)
        figures = {
            f: {
                "value": _plain(row[f]),
                "low": _plain(row[f"{f}_low"]),
                "high": _plain(row[f"{f}_high"]),
                "sure": bool(row[f"{f}_determined"]),
                "why": str(row[f"{f}_reason"]),
                "text": estimate_text(
                    row[f], row[f"{f}_low"], row[f"{f}_high"], row[f"{f}_determined"]
                ),
            }
            for f in (*AXES, "beta", "octave_error")
        }
        groups.append(
            {
                "name": group_name(row, columns),
                "variant": variant,
                "decay": f"{row['weight_decay']:g}" if "weight_decay" in columns else "",
                "color": color_of_variant(str(row.get("parameterization", variant))),
                "figures": figures,
                "wells": _wells(report, g),
            }
        )
    ranges = {f: figure_range(frame, f) for f in AXES}
    return {
        "title": title,
        "scale": report.scale,
        "level": f"{100 * report.level:g} %",
        "reference": report.reference,
        "ranges": ranges,
        "labels": AXES,
        "groups": groups,
        "notes": list(report.notes),
    }


def _wells(report: TransferReport, g: int) -> list[dict[str, Any]]:
    """The runs and the well of every width of a group."""
    fit = report.groups[g].fit
    rows = report.table
    for column, value in zip(report.group_columns, fit.key, strict=True):
        rows = rows[rows[column] == value]
    start = sum(len(other.fit.points.scale_W) for other in report.groups[:g])
    wells = report.basins.iloc[start : start + len(fit.points.scale_W)].to_dict("records")
    out = []
    for well in wells:
        runs = rows[rows[report.scale] == well[report.scale]]
        out.append(
            {
                "n": plain_number(well[report.scale]),
                "lr": _plain(well["log2_lr"]),
                "low": _plain(well["log2_lr_low"]),
                "high": _plain(well["log2_lr_high"]),
                "loss": _plain(well["loss"]),
                "h": _plain(well["curvature"]),
                "skew": round(fit.skew, 5),
                "edge": well["edge"],
                "why": well["reason"],
                "text": estimate_text(
                    well["log2_lr"], well["log2_lr_low"], well["log2_lr_high"], well["determined"]
                ),
                "runs": [
                    [_plain(x), _plain(y)]
                    for x, y in zip(runs["log2_lr"], runs["loss"], strict=True)
                ],
            }
        )
    return out


def _plain(value: float) -> float | None:
    value = float(value)
    if math.isnan(value):
        return None
    return float(np.copysign(1e308, value)) if math.isinf(value) else float(f"{value:.7g}")
