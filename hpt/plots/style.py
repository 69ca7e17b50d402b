"""Colours, markers, axes and other small pieces that the figures share."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator

from hpt.files import read_toml
from hpt.metrics.quantities import group_name
from hpt.metrics.report import TransferReport
from hpt.plots.display import ShownFigure

_LOOKS = read_toml("hpt.plots", "style.toml")
COLORS = _LOOKS["colors"]
ROLE_COLORS = _LOOKS["roles"]
OTHER_COLORS = sns.color_palette("tab20").as_hex()
GREY = "#a8a8a8"  # what the data do not determine
NOTE_COLOR = "#777777"
MARKERS = "osD^vP*X"
PANELS_A_ROW = 4
LABEL_OCTAVES = 0.6  # between two labels
STYLE = sns.axes_style("whitegrid") | _LOOKS["style"]


def color_of(name: str) -> str:
    """The colour of a parameterization, the same in every figure; other names have one too."""
    return COLORS.get(name) or OTHER_COLORS[sum(map(ord, name)) % len(OTHER_COLORS)]


def new_figure(panels: int, *, height: float = 3.6, sharey: bool = False):
    """A figure and the list of its panels, at most four side by side; each row has this height in
    inches."""
    columns = min(panels, PANELS_A_ROW)
    rows = -(-panels // columns)
    width = min(4.2 * columns, 12.6)
    if panels == 1:
        width = 6.4
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(width, rows * height),
            sharey=sharey,
            squeeze=False,
            layout="constrained",
            FigureClass=ShownFigure,
        )
    # A notebook shows the figure that a cell returns; left open, it would show it twice.
    plt.close(figure)
    for left_over in axes.flat[panels:]:
        left_over.remove()
    return figure, list(axes.flat[:panels])


def width_figure(panels: int, scale: str = "width", *, sharey: bool = False):
    """A new figure whose x axes are widths, or another scale: logarithmic to base 2, with plain numbers."""
    figure, axes = new_figure(panels, sharey=sharey)
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(scale)
    return figure, axes


def log_axis(ax):
    """A logarithmic x axis.

    Over a decade or so its ticks are plain numbers, since labels like 3×10⁻² run into each other.
    """
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 30 * low:
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()


def error_bars(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Distances (2, rows) of a column from its _low and _high, as matplotlib's errorbar asks."""
    ends = frame[[f"{column}_low", f"{column}_high"]]
    return ends.sub(frame[column], axis=0).abs().to_numpy().T


def draw_over(ax, frame, scale, column, **style):
    """A column with its intervals against the width, or another scale."""
    bars = error_bars(frame, column)
    ax.errorbar(frame[scale], frame[column], yerr=bars, capsize=3, **style)


def add_note(ax, text, at, offset, **style):
    """Small grey text, `offset` points from a place in the panel."""
    looks = {"fontsize": 7, "color": NOTE_COLOR} | style
    ax.annotate(text, at, xytext=offset, textcoords="offset points", **looks)


def label_ends(ax, ends):
    """Names of lines at their last points, (x, y, text, colour) each, pushed apart where they would run
    into each other. Both axes are logarithmic."""
    lowest = -np.inf
    for x, y, text, color in sorted(ends, key=lambda end: end[1]):
        height = max(np.log2(y), lowest)
        lowest = height + LABEL_OCTAVES
        looks = {"fontsize": 7, "color": color, "va": "center", "annotation_clip": False}
        ax.annotate(text, (x, 2**height), xytext=(6, 0), textcoords="offset points", **looks)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.45)


def by_group(frame: pd.DataFrame, report: TransferReport) -> dict[str, pd.DataFrame]:
    """The rows of each group of a report, called by its parameterization and what else varies; all rows
    under "" where there are no groups."""
    varies = report.basins.nunique() > 1
    columns = [name for name in report.group_columns if name == "parameterization" or varies[name]]
    if not columns:
        return {"": frame}
    rows = frame[columns].to_dict("records")
    names = [group_name(row, columns) for row in rows]
    # As an array: a list of one name would be taken for a column's.
    groups = frame.groupby(np.array(names), sort=False)
    return dict(list(groups))
