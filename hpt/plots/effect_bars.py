"""Effects of switches as bars with intervals; grey is what is not determined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hpt.metrics.quantities import QUANTITIES, group_name
from hpt.plots.style import GREY, add_note, new_figure, shades


def plot_effects(
    frame: pd.DataFrame,
    *,
    kinds: Sequence[str] = ("main", "interaction", "shapley"),
    title: str = "",
) -> Figure:
    """Effects of switches as bars with intervals; undetermined ones are grey, and said.

    Parameters
    ----------
    frame: effects of one figure, from :func:`hpt.effects`; each value of its other group columns
        has bars of its own.
    kinds: panels.
    """
    shown = frame[frame["kind"].isin(kinds)]
    most_bars = shown["kind"].value_counts().max()
    figure, axes = new_figure(len(kinds), width=4.2 * len(kinds), height=0.34 * most_bars + 1.4)
    others = list(frame.columns[: frame.columns.get_loc("figure")])
    parts = [part for _, part in shown.groupby(others or "figure", sort=False)]
    colors = shades(len(parts), start=0.15)
    offsets = 0.8 * (np.arange(len(parts)) - (len(parts) - 1) / 2) / len(parts)
    for ax, kind in zip(axes, kinds, strict=True):
        switches = list(shown["switch"][shown["kind"] == kind].unique())
        for part, color, offset in zip(parts, colors, offsets, strict=True):
            bars = part[part["kind"] == kind]
            heights = bars["switch"].map(switches.index) + offset
            _draw_bars(ax, bars.assign(y=heights), color, 0.7 / len(parts))
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(switches)), switches)
        ax.invert_yaxis()
        ax.set_xlabel(_axis_label(kind, frame["figure"].iloc[0]))
    if others:
        names = [group_name(part.iloc[0], others) for part in parts]
        handles = [Patch(color=c, label=name) for c, name in zip(colors, names, strict=True)]
        axes[-1].legend(handles=handles, fontsize=7)
    lines = [title, _remark(shown)]
    figure.suptitle("\n".join(filter(None, lines)), fontsize=9)
    return figure


def _draw_bars(ax, bars, color, thickness) -> None:
    """Bars with their intervals; a reason in place of a bar that has no estimate."""
    lost = bars["estimate"].isna()
    known = bars[~lost]
    colors = [color if sure else GREY for sure in known["determined"]]
    ax.barh(known["y"], known["estimate"], height=thickness, color=colors)
    ax.plot(known[["low", "high"]].T, known[["y", "y"]].T, color="black", lw=1.2)
    for bar in bars[lost].itertuples():
        add_note(ax, bar.reason, (0, bar.y), (4, -3))


def _axis_label(kind: str, figure: str) -> str:
    if kind == "share":
        return "share of the whole"
    quantity = QUANTITIES["R_n" if figure == "penalty" else figure]
    unit = quantity.unit or "change of the exponent"
    if figure in ("E", "E_extrap"):
        unit = "log₂ of the factor"
    return f"{kind} effect on {quantity.symbol}, {unit}"


def _remark(shown: pd.DataFrame) -> str:
    """Why bars are grey, and how many each time."""
    reasons = shown["reason"][~shown["determined"].astype(bool)].value_counts()
    said = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return said and f"grey: {said}"
