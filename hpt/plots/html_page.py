"""Pages that need no network and no library: a template of this folder, filled with data."""

from __future__ import annotations

import math
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.utils import htmlsafe_json_dumps

DATA_MARK = "/*DATA*/null"
CHART_MARK = "/*CHART*/"


def write_html_page(template: str, data: dict[str, Any], path: str | os.PathLike) -> Path:
    """Write a template with its data and the code that charts share, as one file.

    Parameters
    ----------
    template: a file of this folder.
    data: what the page draws, as :func:`plain` makes it.
    path: the file to write; its folder is made.
    """
    folder = resources.files("hpt.plots")
    page = folder.joinpath(template).read_text(encoding="utf-8")
    chart = folder.joinpath("chart.js").read_text(encoding="utf-8")
    values = htmlsafe_json_dumps(data, allow_nan=False, separators=(",", ":"))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.replace(CHART_MARK, chart).replace(DATA_MARK, values), encoding="utf-8")
    return path


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers to seven digits, None for nan, ±1e308 for ±inf."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    return float(f"{np.clip(value, -1e308, 1e308):.7g}")
