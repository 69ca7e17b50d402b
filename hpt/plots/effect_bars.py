"""Effects of switches as bars with intervals; grey is what is not determined."""

from __future__ import annotations

from collections.abc import Sequence

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
    others = list(frame.columns[: frame.columns.get_loc("figure")])
    shown = frame.query("kind in @kinds")
    shown = shown.assign(part=shown.groupby(others or "figure", sort=False).ngroup())
    parts = shown.drop_duplicates("part").to_dict("records")
    colors = sns.color_palette("viridis", len(parts))
    most_bars = shown["kind"].value_counts().max()
    figure, axes = new_figure(len(kinds), height=0.34 * most_bars + 1.4)
    for ax, kind in zip(axes, kinds, strict=True):
        _draw_bars(ax, shown.query("kind == @kind"), colors)
        ax.set_xlabel(_axis_label(kind, frame["figure"].iloc[0]))
    if others:
        for part, color in zip(parts, colors, strict=True):
            axes[-1].plot([], [], "s", color=color, label=group_name(part, others))
        axes[-1].legend(fontsize=7)
    figure.suptitle(f"{title}\n{_remark(shown)}".strip(), fontsize=9)
    return figure


def _draw_bars(ax, bars, colors):
    """Bars with their intervals; a reason in place of a bar that has no estimate."""
    switches = list(bars["switch"].unique())
    from_middle = bars["part"] - (len(colors) - 1) / 2
    bars = bars.assign(y=bars["switch"].map(switches.index) + 0.8 * from_middle / len(colors))
    known = bars.dropna(subset="estimate")
    looks = [colors[bar.part] if bar.determined else GREY for bar in known.itertuples()]
    ax.barh(known["y"], known["estimate"], height=0.7 / len(colors), color=looks)
    ax.plot(known[["low", "high"]].T, known[["y", "y"]].T, color="black", lw=1.2)
    for bar in bars[bars["estimate"].isna()].itertuples():
        add_note(ax, bar.reason, (0, bar.y), (4, -3))
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(switches)), switches)
    ax.invert_yaxis()


def _axis_label(kind, figure):
    if kind == "share":
        return "share of the whole"
    quantity = QUANTITIES["R_n" if figure == "penalty" else figure]
    unit = quantity.unit or "change of the exponent"
    if figure in ("E", "E_extrap"):
        unit = "log₂ of the factor"
    return f"{kind} effect on {quantity.symbol}, {unit}"


def _remark(shown):
    """Why bars are grey, and how many each time."""
    reasons = shown.query("not determined")["reason"].value_counts()
    said = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return said and f"grey: {said}"
