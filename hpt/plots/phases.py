"""Phase diagrams: the figures of a report against each other; grey is what is not determined."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure
from numpy import clip, isfinite, isnan, ptp

from hpt.metrics import intervals
from hpt.metrics.quantities import DECAYS, QUANTITIES, decay_column, group_name
from hpt.metrics.report import TransferReport
from hpt.plots.style import GREY, MARKERS, add_note, color_of, log_axis, new_figure

AXES = ("E", "kappa", "R")
PAIRS = (("E", "kappa"), ("kappa", "R"), ("E", "R"))


@dataclass(frozen=True)
class Point:
    """A group as the figures draw it."""

    name: str
    variant: str
    marker: str
    figures: dict[str, intervals.Figure]


def points_of(report: TransferReport) -> list[Point]:
    """The groups of a report, with one marker for each weight decay."""
    rows = report.to_frame().to_dict("records")
    markers = _markers(report)
    points = []
    for row in rows:
        name = group_name(row, report.group_columns)
        variant = str(row.get("parameterization", name))
        marker = markers.get(row.get(decay_column(report.group_columns)), "o")
        figures = {axis: intervals.Figure.from_row(row, axis) for axis in AXES}
        points.append(Point(name, variant, marker, figures))
    return points


def _markers(report):
    decay = decay_column(report.group_columns)
    if decay is None:
        return {}
    decays = sorted(report.figures[decay].unique())
    return dict(zip(decays, cycle(MARKERS), strict=False))


def plot_phases(report: TransferReport, *, labels: bool | None = None) -> Figure:
    """E–κ–R(∞) phase diagrams with error bars, after Kalra & Barkeshli 2026, who draw them without.

    A point is a group; its marker tells the weight decay. Grey and hollow: one of its two figures
    is not determined. An undetermined point off the axes' range sits at their border. Groups
    without an estimate are named below. A figure that one group determines at most, such as R the
    reference, has no diagram.

    Parameters
    ----------
    labels: names beside the points; by default where there are at most eight groups, a legend
        otherwise.
    """
    points = points_of(report)
    if labels is None:
        labels = len(points) <= 8
    ranges = {name: figure_range(report.figures, name) for name in AXES}
    known = report.figures.filter(like="_determined").sum()
    told = {name for name in AXES if known[f"{name}_determined"] > 1}
    pairs = [pair for pair in PAIRS if told.issuperset(pair)]
    pairs = pairs or PAIRS
    figure, axes = new_figure(len(pairs), height=4.4)
    for ax, (x, y) in zip(axes, pairs, strict=True):
        for point in points:
            _draw_point(ax, point, (x, y), ranges, labels)
        draw_x_axis(ax, x, ranges[x], report.unit)
        ax.set(ylabel=QUANTITIES[y].labelled(report.unit), ylim=ranges[y])
        ax.axhline(0, color="black", lw=0.6)
    if not labels:
        _add_legend(figure, points, _markers(report), DECAYS.get(decay_column(report.group_columns)))
    figure.suptitle(_remarks(points), fontsize=8, color="#666666", y=-0.02, va="top", wrap=True)
    return figure


def figure_range(frame: pd.DataFrame, name: str) -> tuple[float, float]:
    """Range of a figure's axis: all that is determined with its interval, else the estimates.

    The axis of E is logarithmic; any other has zero on it.
    """
    columns = [name, f"{name}_low", f"{name}_high"]
    known = frame.loc[frame[f"{name}_determined"], columns]
    values = (frame[name] if known.empty else known).to_numpy(float)
    values = values[isfinite(values)]
    if name == "E":
        ends = [value for value in values if value > 0] or [1e-3, 1e-1]
        return min(ends) / 1.5, max(ends) * 1.5
    ends = [0, *values]
    margin = 0.08 * ptp(ends) or 0.1
    return min(ends) - margin, max(ends) + margin


def draw_x_axis(ax, name, ends, unit):
    """The x axis of a figure of losses in this unit: of E logarithmic, of others with a line at zero."""
    ax.set(xlabel=QUANTITIES[name].labelled(unit), xlim=ends)
    if name == "E":
        log_axis(ax)
    else:
        ax.axvline(0, color="black", lw=0.6)
        ax.locator_params(axis="x", nbins=5)


def _draw_point(ax, point, pair, ranges, labelled):
    """A group in one diagram; nothing where it has no estimate of a figure."""
    figures = [point.figures[name] for name in pair]
    if not isfinite([figure.estimate for figure in figures]).all():
        return
    sure = all(figure.determined for figure in figures)
    color = color_of(point.variant) if sure else GREY
    (x_low, x, x_high), (y_low, y, y_high) = (_on_axis(point, name, ranges) for name in pair)
    ax.hlines(y, x_low, x_high, color=color, lw=1.2)
    ax.vlines(x, y_low, y_high, color=color, lw=1.2)
    ax.plot(x, y, point.marker, color=color, mfc=color if sure else "none", ms=6, clip_on=False)
    if labelled:
        add_note(ax, point.name, (x, y), (5, 5), fontsize=8, color=color)


def _on_axis(point, name, ranges):
    """Low end, estimate and high end within the axis; no interval where it is not determined."""
    figure = point.figures[name]
    ends = [figure.low, figure.estimate, figure.high]
    return clip(ends if figure.determined else [figure.estimate] * 3, *ranges[name])


def _add_legend(figure, points, markers, symbol):
    """Colours of the parameterizations, then markers of the weight decays."""
    ax = figure.axes[0]
    for variant in dict.fromkeys(point.variant for point in points):
        ax.plot([], [], "o", color=color_of(variant), label=variant)
    for decay, marker in markers.items():
        ax.plot([], [], marker, color="black", label=f"{symbol}={decay:g}")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)


def _remarks(points):
    """What has no place in the diagrams, then what is grey, each with its reason."""
    names = {}
    for point in points:
        for name, figure in point.figures.items():
            if not figure.determined:
                title = "no estimate" if isnan(figure.estimate) else "grey"
                remark = f"{title} ({QUANTITIES[name].symbol}: {figure.reason})"
                names.setdefault(remark, []).append(point.name)
    lines = []
    for remark in sorted(names, reverse=True):
        who = names[remark]
        listed = ", ".join(who) if len(who) <= 6 else f"{len(who)} groups"
        lines.append(f"{remark}: {listed}")
    return "\n".join(lines)
