"""Phase diagrams and effects: figures of a report's verdicts; what is not determined is grey, and
said."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hpt.metrics.quantities import group_name
from hpt.metrics.report import TransferReport
from hpt.plots.style import GREY, MARKERS, STYLE, color_of_variant, log_axis

AXES = {"E": "E, nats (log)", "kappa": "κ", "R": "R(∞), nats"}
PAIRS = (("E", "kappa"), ("kappa", "R"), ("E", "R"))


def plot_phases(report: TransferReport, *, labels: bool | None = None) -> Figure:
    """E–κ–R(∞) phase diagrams with error bars, after Kalra & Barkeshli 2026, who draw them without.

    A point is a group; its marker tells the weight decay. Grey and hollow: one of its two figures
    is not determined. An undetermined point off the axes' range sits at their border. Groups
    without an estimate are named below.

    Parameters
    ----------
    labels: names beside the points; by default where there are at most eight groups, a legend
        otherwise.
    """
    frame = report.to_frame()
    names = [group_name(row, report.group_columns) for row in frame.to_dict("records")]
    labels = len(names) <= 8 if labels is None else labels
    decays = sorted(frame["weight_decay"].unique()) if "weight_decay" in frame else []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12.6, 4.4), layout="constrained")
    plt.close(figure)
    for ax, pair in zip(axes, PAIRS, strict=True):
        ranges = [figure_range(frame, name) for name in pair]
        for name, row in zip(names, frame.to_dict("records"), strict=True):
            if not np.isfinite([row[f] for f in pair]).all():
                continue
            sure = all(row[f"{f}_determined"] for f in pair)
            color = color_of_variant(str(row.get("parameterization", name))) if sure else GREY
            at = [np.clip(row[f], *r) for f, r in zip(pair, ranges, strict=True)]
            ends = [
                np.clip([row[f"{f}_low"], row[f"{f}_high"]], *r)
                if row[f"{f}_determined"]
                else (v, v)
                for f, r, v in zip(pair, ranges, at, strict=True)
            ]
            marker = MARKERS[decays.index(row["weight_decay"]) % len(MARKERS)] if decays else "o"
            ax.plot(ends[0], [at[1]] * 2, color=color, lw=1.2)
            ax.plot([at[0]] * 2, ends[1], color=color, lw=1.2)
            ax.plot(*at, marker, color=color, mfc=color if sure else "none", ms=6)
            if labels:
                ax.annotate(
                    name, at, xytext=(5, 5), textcoords="offset points", fontsize=8, color=color
                )
        ax.set(xlabel=AXES[pair[0]], ylabel=AXES[pair[1]], xlim=ranges[0], ylim=ranges[1])
        if pair[0] == "E":
            log_axis(ax)
        else:
            ax.axvline(0, color="black", lw=0.6)
        ax.axhline(0, color="black", lw=0.6)
    if not labels:
        variants = dict.fromkeys(
            str(row.get("parameterization", name))
            for name, row in zip(names, frame.to_dict("records"), strict=True)
        )
        handles = [
            Line2D([], [], color=color_of_variant(v), marker="o", ls="", label=v) for v in variants
        ]
        handles += [
            Line2D([], [], color="black", marker=m, ls="", label=f"λ={d:g}")
            for d, m in zip(decays, MARKERS, strict=False)
        ]
        figure.legend(handles=handles, loc="outside right center", fontsize=8)
    note = _not_drawn(frame, names)
    figure.suptitle(note, fontsize=8, color="#666666", y=-0.02, va="top")
    return figure


def figure_range(frame: pd.DataFrame, name: str) -> tuple[float, float]:
    """Axis range of a figure: what is determined with its interval, or where nothing is the
    estimates."""
    sure = frame[frame[f"{name}_determined"].astype(bool)]
    columns = [name, f"{name}_low", f"{name}_high"] if len(sure) else [name]
    values = (sure if len(sure) else frame)[columns].to_numpy(float).ravel()
    values = values[np.isfinite(values)]
    if name == "E":
        values = values[values > 0]
        low, high = (values.min(), values.max()) if len(values) else (1e-3, 1e-1)
        return float(low / 1.5), float(high * 1.5)
    low, high = (min(values.min(), 0), max(values.max(), 0)) if len(values) else (-1, 1)
    margin = 0.08 * (high - low) or 0.1
    return float(low - margin), float(high + margin)


def _not_drawn(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """What has no place in the diagrams and what is grey, each with its commonest reasons."""
    missing, grey = {}, {}
    for name, row in zip(names, frame.to_dict("records"), strict=True):
        for f in AXES:
            if not row[f"{f}_determined"]:
                said = f"{f.replace('kappa', 'κ').replace('R', 'R(∞)')}: {row[f'{f}_reason']}"
                (missing if np.isnan(row[f]) else grey).setdefault(said, []).append(name)
    parts = [
        f"{title} ({reason}): {', '.join(who) if len(who) <= 6 else f'{len(who)} groups'}"
        for title, group in (("no estimate", missing), ("grey", grey))
        for reason, who in group.items()
    ]
    return "\n".join(parts)


def plot_effects(
    frame: pd.DataFrame,
    *,
    kinds: Sequence[str] = ("main", "interaction", "shapley"),
    title: str = "",
) -> Figure:
    """Effects of switches as bars with intervals (from :func:`hpt.effects`); undetermined ones grey
    and said.

    Parameters
    ----------
    frame: effects of one figure; one group of bars for each value of its other group columns.
    kinds: panels.
    """
    figure_name = frame["figure"].iloc[0]
    unit = (
        "log₂ of the factor"
        if figure_name in ("E", "E_extrap")
        else "nats"
        if figure_name in ("loss", "penalty", "R")
        else "change of the exponent"
    )
    fixed = {
        "figure",
        "width",
        "kind",
        "switch",
        "estimate",
        "low",
        "high",
        "determined",
        "reason",
        "order",
        "variants",
    }
    others = [c for c in frame.columns if c not in fixed]
    rests = list(frame.groupby(others, sort=False)) if others else [((), frame)]
    with plt.rc_context(STYLE):
        rows = max((frame["kind"] == kind).sum() for kind in kinds)
        figure, axes = plt.subplots(
            1,
            len(kinds),
            figsize=(4.2 * len(kinds), 0.34 * rows + 1.4),
            squeeze=False,
            layout="constrained",
        )
    plt.close(figure)
    for ax, kind in zip(axes[0], kinds, strict=True):
        switches = list(dict.fromkeys(frame.loc[frame["kind"] == kind, "switch"]))
        for j, (rest, part) in enumerate(rests):
            offset = (j - (len(rests) - 1) / 2) * 0.8 / len(rests)
            for row in part[part["kind"] == kind].to_dict("records"):
                y = switches.index(row["switch"]) + offset
                color = (
                    plt.get_cmap("viridis")(0.15 + 0.7 * j / max(len(rests) - 1, 1))
                    if row["determined"]
                    else GREY
                )
                if np.isnan(row["estimate"]):
                    ax.annotate(
                        row["reason"],
                        (0, y),
                        xytext=(4, -3),
                        textcoords="offset points",
                        fontsize=7,
                        color="#777777",
                    )
                    continue
                ax.barh(
                    y,
                    row["estimate"],
                    height=0.7 / len(rests),
                    color=color,
                    label=", ".join(
                        f"{c} {v:g}" if isinstance(v, float) else f"{c} {v}"
                        for c, v in zip(others, rest, strict=True)
                    )
                    or None,
                )
                if np.isfinite([row["low"], row["high"]]).all():
                    ax.plot([row["low"], row["high"]], [y, y], color="black", lw=1.2)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(switches)), switches)
        ax.invert_yaxis()
        ax.set(
            xlabel=f"{kind} effect on {figure_name}, {unit}"
            if kind != "share"
            else "share of the whole"
        )
    if others:
        handles, keys = axes[0][0].get_legend_handles_labels()
        unique = dict(zip(keys, handles, strict=True))
        axes[0][-1].legend(unique.values(), unique.keys(), fontsize=7)
    unsure = frame[frame["kind"].isin(kinds) & ~frame["determined"].astype(bool)][
        "reason"
    ].value_counts()
    said = "; ".join(f"{reason} ({count})" for reason, count in unsure.items())
    figure.suptitle("\n".join(filter(None, [title, f"grey: {said}" if said else ""])), fontsize=9)
    return figure
