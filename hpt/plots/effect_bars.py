"""Effects of switches as bars with intervals; grey is what is not determined."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from hpt.metrics.quantities import QUANTITIES, group_name
from hpt.plots.style import GREY, add_note, new_figure


def plot_effects(
    frame: pd.DataFrame, *, kinds: Sequence[str] = ("main", "interaction", "shapley"), title: str = ""
) -> Figure:
    """Effects of switches as bars with intervals; undetermined ones are grey, and said.

    Parameters
    ----------
    frame: effects of one figure, from :func:`hpt.effects`; each value of its other group columns
        has bars of its own.
    kinds: panels.
    """
    before = frame.columns.get_loc("figure")
    others = list(frame.columns[:before])
    shown = frame.query("kind in @kinds")
    part = shown.groupby(others or "figure", sort=False).ngroup()
    shown = shown.assign(part=part)
    parts = shown.drop_duplicates("part")
    colors = sns.color_palette("viridis", len(parts))
    most_bars = shown["kind"].value_counts().max()
    figure, axes = new_figure(len(kinds), height=0.34 * most_bars + 1.4)
    for ax, kind in zip(axes, kinds, strict=True):
        bars = shown.query("kind == @kind")
        _draw_bars(ax, bars, colors)
        ax.set_xlabel(_axis_label(kind, frame["figure"].iloc[0], frame.attrs.get("unit", "nats")))
    if len(parts) > 1:
        _add_legend(axes[-1], parts[others].to_dict("records"), colors)
    remark = _remark(shown)
    figure.suptitle(f"{title}\n{remark}".strip(), fontsize=9)
    return figure


def _add_legend(ax, parts, colors):
    """The other group columns' values, by colour."""
    for part, color in zip(parts, colors, strict=True):
        label = group_name(part, list(part))
        ax.plot([], [], "s", color=color, label=label)
    ax.legend(fontsize=7)


def _draw_bars(ax, bars, colors):
    """Bars with their intervals; a reason in place of a bar that has no estimate."""
    switches = list(bars["switch"].unique())
    parts = len(colors)
    for bar in bars.itertuples():
        from_middle = bar.part - (parts - 1) / 2
        y = switches.index(bar.switch) + 0.8 * from_middle / parts
        if isnan(bar.estimate):
            add_note(ax, bar.reason, (0, y), (4, -3))
            continue
        color = colors[bar.part] if bar.determined else GREY
        ax.barh(y, bar.estimate, height=0.7 / parts, color=color)
        ax.plot([bar.low, bar.high], [y, y], color="black", lw=1.2)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(switches)), switches)
    ax.invert_yaxis()
    ax.locator_params(axis="x", nbins=5)


def _axis_label(kind, figure, loss_unit):
    if kind == "share":
        return "share of the whole"
    if figure == "penalty":
        figure = "R_n"
    quantity = QUANTITIES[figure]
    unit = quantity.unit.replace("nats", loss_unit) or "change of the exponent"
    if figure in ("E", "E_extrap"):
        unit = "log₂ of the factor"
    return f"{kind.capitalize()} effect on {quantity.symbol}, {unit}"


def _remark(shown):
    """Why bars are grey, and how many each time."""
    reasons = shown.query("not determined")["reason"].value_counts()
    said = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return said and f"grey: {said}"
