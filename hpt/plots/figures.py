"""Figures made for reading: each takes results that exist and returns a matplotlib Figure.

Nothing trains here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from hpt.analysis.predict import predict_lr
from hpt.metrics.quantities import signs
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.plots.phases import AXES, draw_x_axis, figure_range, points_of
from hpt.plots.style import (
    GREY,
    PANELS_A_ROW,
    ROLE_COLORS,
    add_note,
    by_group,
    color_of,
    draw_over,
    error_bars,
    label_ends,
    new_figure,
    width_figure,
)
from hpt.plots.wells import well_curve
from hpt.runs.result import RunResult
from hpt.runs.stability import excess_loss

if TYPE_CHECKING:
    from hpt.parameterization.coordinates import CoordCheck

#: A coordinate check shows so many octaves at least: a slope of −0.05 is not to look like a cliff.
LEAST_OCTAVES = 5
#: What a mistake costs by unit of the loss: so far a basin is shown.
COSTS = {"nats": 0.8, "error": 0.2}
#: How the axis of a learning rate is called, by convention.
CONVENTIONS = {"hidden": "log₂ η (hidden)", "mup": "log₂ η·n/n_base (μP's convention)"}
SIZES = {"activation": "activations", "change": "their change", "update": "the layer's own ΔW·x"}


def plot_loss_curves(
    runs: Sequence[RunResult], labels: Sequence[str], *, smooth: int = 10, title: str = ""
) -> Figure:
    """Training loss against the step, one line a run.

    Parameters
    ----------
    runs, labels: what to draw and what to call it.
    smooth: steps that a point is the mean of (of all there are, at the start).
    """
    figure, (ax,) = new_figure(1)
    for run, label, color in zip(runs, labels, sns.color_palette("viridis", len(runs)), strict=True):
        curve = pd.Series(run.train_loss).rolling(smooth, min_periods=1).mean()
        if run.diverged:
            label = f"{label} (diverged)"
        ax.plot(curve.to_numpy(), color=color, label=label, lw=1.4)
    ylabel = f"training loss, nats (mean of {smooth} steps)"
    ax.set(xlabel="step", ylabel=ylabel, title=title)
    ax.legend(fontsize=8)
    return figure


def plot_excess(
    panels: dict[str, Sequence[tuple[str, RunResult]]], stable: dict[str, RunResult], *, title: str = ""
) -> Figure:
    """Loss curve minus that of a stable run on the same batches; the batch noise cancels.

    Parameters
    ----------
    panels: for each panel's title, (label, run) pairs.
    stable: for each panel's title, the run that is subtracted.
    """
    figure, axes = new_figure(len(panels), sharey=True)
    for ax, (name, runs) in zip(axes, panels.items(), strict=True):
        for (label, run), color in zip(runs, sns.color_palette("plasma", len(runs)), strict=True):
            excess = excess_loss(run, stable[name])
            ax.plot(excess, lw=0.9, label=label, color=color)
        ax.axhline(0, color="black", lw=0.8)
        ax.set(title=name, xlabel="step")
        ax.legend(fontsize=8)
    leftmost = axes[0]
    limits = np.clip(leftmost.get_ylim(), -1, 4)
    leftmost.set(ylim=limits, ylabel="loss above the stable run, nats")
    figure.suptitle(title)
    return figure


def plot_basins(
    data: TransferReport | pd.DataFrame,
    *,
    convention: str = "hidden",
    base_width: int = 1,
    regret: bool = False,
    mine: pd.DataFrame | None = None,
) -> Figure:
    """Final loss against the learning rate, a panel a group, a colour a width (or a value of the report's
    scale): mean losses as points, the fitted well as a line, its optimum as a diamond with the interval.

    Parameters
    ----------
    data: a report, or a sweep's table.
    convention: the axis: "hidden", the hidden learning rate η at that width; "mup", the learning rate in
        μP's own convention, η_μ = η·width/base_width; or "both", a panel each.
    base_width: for the "mup" axis.
    regret: draw the loss above the width's own best, so that widths compare.
    mine: the table of further runs, drawn as rings: your own over a reference study's.
    """
    report = data if isinstance(data, TransferReport) else transfer_report(data)
    rows = by_group(report.table, report)
    wells = by_group(report.basins, report)
    own = {} if mine is None or mine.empty else by_group(mine, report)
    scale = report.scale
    widths = sorted(report.basins[scale].unique())
    conventions = [convention]
    if convention == "both":
        conventions = list(CONVENTIONS)
    panels = list(itertools.product(wells, conventions))
    figure, axes = new_figure(len(panels), sharey=True)
    for ax, (name, axis) in zip(axes, panels, strict=True):
        for width, color in zip(widths, sns.color_palette("viridis", len(widths)), strict=True):
            well = _at(wells[name], scale, width)
            shift = 0.0
            if axis == "mup":
                shift = np.log2(width / base_width)
            floor = 0.0
            if regret:
                floor = well["loss"].sum()
            runs = _at(rows[name], scale, width)
            _draw_basin(ax, report, runs, well, (shift, -floor), color)
            if name in own:
                rings = _at(own[name], scale, width)
                _draw_rings(ax, rings, (shift, -floor), color)
        ax.set(title=name, xlabel=CONVENTIONS[axis])
    for axis in conventions:
        _share_x([ax for ax in axes if ax.get_xlabel() == CONVENTIONS[axis]])
    _set_heights(axes[::PANELS_A_ROW], report, regret)
    if own:
        axes[-1].plot([], [], "o", color="black", mfc="none", ms=8, label="your runs")
    lines = axes[-1].get_legend_handles_labels()
    figure.legend(*lines, title=scale, fontsize=8, loc="outside lower center", ncols=8)
    return figure


def _at(frame, scale, size):
    return frame[frame[scale] == size]


def _set_heights(leftmost, report, regret):
    """What the heights are, and how far they reach: to a mistake's cost, not to a diverged run."""
    best = report.basins["loss"]
    cost = COSTS[report.unit]
    limits = best.min() - cost / 16, best.max() + cost
    ylabel = f"validation loss, {report.unit}"
    if regret:
        limits = -cost / 40, 0.625 * cost
        ylabel = f"{report.unit} above each curve's own best"
    for ax in leftmost:
        ax.set_ylabel(ylabel)
        ax.set_ylim(limits)


def _share_x(axes):
    """The same rates on all of these panels."""
    limits = [ax.get_xlim() for ax in axes]
    lows, highs = zip(*limits, strict=True)
    plt.setp(axes, xlim=(min(lows), max(highs)))


def _draw_basin(ax, report, rows, well, shift, color):
    """Mean losses of one width, its fitted well, and the optimum where the data determine it; moved by
    ``shift``."""
    x, y = shift
    means = rows.groupby("log2_lr")["loss"].mean()
    label = f"{rows[report.scale].iloc[0]:,.10g}" if len(rows) else None
    ax.plot(means.index + x, means + y, "o:", color=color, ms=3.5, lw=0.7, label=label)
    for each in well.to_dict("records"):
        log2_lr, loss = well_curve(report, each)
        ax.plot(log2_lr + x, loss + y, color=color, lw=1.4)
    known = well.query("determined")
    bars = error_bars(known, "log2_lr")
    looks = {"color": color, "ms": 6, "mec": "black", "capsize": 3, "zorder": 5}
    ax.errorbar(known["log2_lr"] + x, known["loss"] + y, xerr=bars, fmt="D", **looks)


def _draw_rings(ax, runs, shift, color):
    """Further runs as rings around their place."""
    x, y = shift
    ax.plot(runs["log2_lr"] + x, runs["loss"] + y, "o", color=color, mfc="none", ms=8, mew=1.2)


def plot_optimum(report: TransferReport) -> Figure:
    """Optimal learning rate and loss there, against width, with the fitted law and its band as far as
    four times the largest width."""
    scale = report.scale
    figure, (left, right) = width_figure(2, scale)
    wells = by_group(report.basins, report)
    measured = report.basins[scale]
    widths = np.geomspace(measured.min(), 4 * measured.max(), 25)
    predicted = [predict_lr(report, width=float(w)) for w in widths]
    laws = by_group(pd.concat(predicted), report)
    for name in wells:
        color = color_of(name)
        _draw_law(left, laws[name], scale, color)
        known = wells[name].query("determined")
        style = {"color": color, "ms": 4, "label": name}
        draw_over(left, known, scale, "log2_lr", fmt="o", **style)
        draw_over(right, known, scale, "loss", fmt="o-", **style)
        unknown = wells[name].query("not determined")
        log2_lr = unknown["log2_lr"]
        left.plot(unknown[scale], log2_lr, "x", color="grey")
    left.set_ylabel("log₂ η* (hidden learning rate)")
    right.set_ylabel(f"loss at η*, {report.unit}")
    if "" not in wells:
        right.legend(fontsize=8)
    return figure


def _draw_law(ax, law, scale, color):
    """The η* that a law predicts, with its band."""
    low = law["log2_lr_low"]
    high = law["log2_lr_high"]
    ax.fill_between(law[scale], low, high, color=color, alpha=0.12, lw=0)
    ax.plot(law[scale], law["log2_lr"], color=color, lw=1)


def plot_metrics(report: TransferReport) -> Figure:
    """E, κ and R(∞) with their intervals; what the data do not determine is grey."""
    points = points_of(report)
    figure, axes = new_figure(3, height=0.45 * len(points) + 1.6, sharey=True)
    for ax, column in zip(axes, AXES, strict=True):
        ends = figure_range(report.figures, column)
        draw_x_axis(ax, column, ends, report.unit)
        for y, point in enumerate(points):
            _draw_estimate(ax, y, point.figures[column], ends, color_of(point.variant))
    axes[0].set_yticks(range(len(points)), [point.name for point in points])
    axes[0].set_ylim(len(points) - 0.4, -0.6)
    return figure


def _draw_estimate(ax, y, figure, ends, color):
    """One figure of one group with its interval, at height y; at the axis' border if off it."""
    if not figure.determined:
        color = GREY
        coordinates = ("axes fraction", "data")
        add_note(ax, "not determined", (0.98, y), (0, 7), xycoords=coordinates, ha="right")
    ax.plot(np.clip([figure.low, figure.high], *ends), [y, y], color=color, lw=2)
    ax.plot(np.clip(figure.estimate, *ends), y, "o", color=color, clip_on=False)


def plot_gap(shares: pd.DataFrame) -> Figure:
    """Share of the SP→μP gap that a parameterization closes, against width.

    Parameters
    ----------
    shares: from :func:`hpt.gap_closed`.
    """
    scale = shares.columns[shares.columns.get_loc("share") - 1]
    figure, (ax,) = width_figure(1, scale)
    known = shares.query("determined")
    draw_over(ax, known, scale, "share", fmt="o-", color=color_of("SP+Embd"))
    for name, share in (("μP", 1), ("SP", 0)):
        ax.axhline(share, color=color_of(name), lw=1, ls="--", label=name)
    ax.set_ylabel("share of the gap closed")
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.legend(fontsize=8)
    return figure


def plot_coord_check(check: CoordCheck, *, title: str = "") -> Figure:
    """Sizes at the last step against width, a panel a quantity, a line a role, all on one scale, with the
    slopes n^0 and n^−1 as dotted guides.

    Each line is labelled with its slope; the intervals are in ``check.slopes``.
    """
    figure, axes = width_figure(3, sharey=True)
    steps = check.table["step"].max()
    last = check.table.query("step == @steps and rms > 0")
    axes[0].set_yscale("log", base=2)
    for ax, (quantity, name) in zip(axes, SIZES.items(), strict=True):
        sizes = last[last["quantity"] == quantity]
        fits = check.slopes.query("quantity == @quantity")
        ends = [_draw_sizes(ax, sizes.query("role == @fit.role"), fit) for fit in fits.itertuples()]
        label_ends(ax, ends)
        ax.set_title(name)
    low, high = np.log2(axes[0].get_ylim())
    octaves = high - low
    more = max(0.0, LEAST_OCTAVES - octaves) / 2
    # Labels of lines that end together are pushed upwards.
    axes[0].set_ylim(2 ** (low - more), 2 ** (high + more + 1))
    for ax in axes:
        _draw_guides(ax, sorted(set(last["width"])))
    axes[0].set_ylabel(f"root mean square after {steps} steps")
    figure.suptitle(title or f"coordinate check of {check.rule}")
    return figure


def _draw_guides(ax, widths):
    """How n^0 and n^−1 would fall, from the panel's upper left."""
    _, top = ax.get_ylim()
    relative = np.array(widths) / widths[0]
    for power in (0.0, -1.0):
        sizes = 0.8 * top * relative**power
        ax.plot(widths, sizes, ":", color=GREY, lw=1, zorder=0, scaley=False)


def _draw_sizes(ax, rows, fit):
    """Geometric mean over layers and seeds at each width, with the spread of seeds; its last point, label
    and colour."""
    log_of_seed = np.log2(rows["rms"]).groupby([rows["width"], rows["seed"]]).mean()
    by_width = log_of_seed.groupby("width")
    mean = by_width.mean()
    spread = by_width.std(ddof=0)
    sizes = pd.DataFrame({"rms": mean, "rms_low": mean - spread, "rms_high": mean + spread})
    sizes = np.exp2(sizes).reset_index()
    color = ROLE_COLORS[fit.role]
    draw_over(ax, sizes, "width", "rms", fmt="o-", ms=4, color=color)
    label = signs(f"{fit.role} n^{fit.slope:z.2f}")
    return sizes["width"].iloc[-1], sizes["rms"].iloc[-1], label, color
