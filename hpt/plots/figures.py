"""Figures made for reading: each takes results that exist and returns a matplotlib Figure; nothing
trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hpt.analysis.predict import predict_lr
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.plots.style import ROLE_COLORS, _figure, _width_colors, color_of, log_axis
from hpt.runs.result import RunResult
from hpt.runs.stability import excess_loss

if TYPE_CHECKING:
    from hpt.parameterization.coordinates import CoordCheck


def _curve(losses: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last ``window`` losses at each step (of all there are, at the start)."""
    return pd.Series(losses).rolling(window, min_periods=1).mean().to_numpy()


def plot_loss_curves(
    runs: Sequence[RunResult], labels: Sequence[str], *, smooth: int = 10, title: str = ""
) -> Figure:
    """Training loss against the step, one line a run.

    Parameters
    ----------
    runs, labels: what to draw and what to call it.
    smooth: steps that a point is the mean of.
    """
    figure, (ax,) = _figure(1)
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        ax.plot(
            _curve(run.train_loss, smooth),
            color=plt.get_cmap("viridis")(0.85 * i / max(len(runs) - 1, 1)),
            label=label + (" (diverged)" if run.diverged else ""),
            lw=1.4,
        )
    ax.set(xlabel="step", ylabel=f"training loss, nats (mean of {smooth} steps)", title=title)
    ax.legend(fontsize=8)
    return figure


def plot_excess(
    panels: dict[str, Sequence[tuple[str, RunResult]]],
    stable: dict[str, RunResult],
    *,
    title: str = "",
) -> Figure:
    """Loss curve minus that of a stable run on the same batches; the batch noise cancels.

    Parameters
    ----------
    panels: for each panel's title, (label, run) pairs.
    stable: for each panel's title, the run that is subtracted.
    """
    figure, axes = _figure(len(panels))
    for ax, (name, runs) in zip(axes, panels.items(), strict=True):
        for i, (label, run) in enumerate(runs):
            ax.plot(
                excess_loss(run, stable[name]),
                lw=0.9,
                label=label,
                color=plt.get_cmap("plasma")(0.85 * i / max(len(runs) - 1, 1)),
            )
        ax.axhline(0, color="black", lw=0.8)
        ax.set(title=name, xlabel="step")
        ax.legend(fontsize=8)
    lows, highs = zip(*(ax.get_ylim() for ax in axes), strict=True)
    for ax in axes:
        ax.set_ylim(max(min(lows), -1), min(max(highs), 4))
    axes[0].set_ylabel("loss above the stable run, nats")
    figure.suptitle(title)
    return figure


def plot_basins(
    data: TransferReport | pd.DataFrame, *, convention: str = "hidden", base_width: int = 1
) -> Figure:
    """Final loss against the learning rate, a panel a parameterization, a colour a width.

    Parameters
    ----------
    data: a report, or a sweep's table.
    convention: the axis: "hidden", the hidden learning rate η at that width; or "mup", the learning
        rate in μP's own convention, η_μ = η·width/base_width.
    base_width: for the "mup" axis.
    """
    report = data if isinstance(data, TransferReport) else transfer_report(data)
    table, basins = report.table, report.basins
    names = (
        list(dict.fromkeys(basins["parameterization"])) if "parameterization" in basins else [None]
    )
    colors = _width_colors(sorted(basins["width"].unique()))
    figure, axes = _figure(len(names))
    floor, ceiling = basins["loss"].min(), basins["loss"].max() + 0.8
    for ax, name in zip(axes, names, strict=True):
        rows = table if name is None else table[table["parameterization"] == name]
        wells = basins if name is None else basins[basins["parameterization"] == name]
        for width, color in colors.items():
            shift = np.log2(width / base_width) if convention == "mup" else 0.0
            means = rows[rows["width"] == width].groupby("log2_lr")["loss"].mean()
            ax.plot(
                means.index + shift, means, "o-", color=color, ms=3.5, lw=1.2, label=f"{width:g}"
            )
            for well in wells[(wells["width"] == width) & wells["determined"]].itertuples():
                ax.errorbar(
                    well.log2_lr + shift,
                    well.loss,
                    marker="D",
                    color=color,
                    ms=6,
                    mec="black",
                    zorder=5,
                    xerr=[[well.log2_lr - well.log2_lr_low], [well.log2_lr_high - well.log2_lr]],
                    capsize=3,
                )
        ax.set(
            title=name or "",
            ylim=(floor - 0.05, ceiling),
            xlabel="log₂ η (hidden)"
            if convention == "hidden"
            else "log₂ η·n/n_base (μP's convention)",
        )
    for ax in axes[1:]:
        ax.sharey(axes[0])
        ax.tick_params(labelleft=False)
    axes[0].set_ylabel("validation loss, nats")
    axes[-1].legend(title="width", fontsize=8)
    return figure


def plot_optimum(report: TransferReport, *, beyond: float = 4.0) -> Figure:
    """Optimal learning rate and loss there, against width, with the fitted law and its band.

    Parameters
    ----------
    beyond: how far the law is drawn past the largest width, as a factor.
    """
    figure, (left, right) = _figure(2)
    basins = report.basins
    names = (
        list(dict.fromkeys(basins["parameterization"])) if "parameterization" in basins else [None]
    )
    widths = np.geomspace(basins["width"].min(), basins["width"].max() * beyond, 25)
    laws = pd.concat([predict_lr(report, width=float(w)) for w in widths])
    for name in names:
        wells = basins if name is None else basins[basins["parameterization"] == name]
        law = laws if name is None else laws[laws["parameterization"] == name]
        known, color = wells[wells["determined"]], color_of(name or "")
        left.fill_between(
            law["width"], law["log2_lr_low"], law["log2_lr_high"], color=color, alpha=0.12, lw=0
        )
        left.plot(law["width"], law["log2_lr"], color=color, lw=1)
        for ax, column in ((left, "log2_lr"), (right, "loss")):
            errors = np.abs(
                known[[f"{column}_low", f"{column}_high"]].to_numpy().T - known[column].to_numpy()
            )
            ax.errorbar(
                known["width"],
                known[column],
                yerr=errors,
                fmt="o",
                color=color,
                ms=4,
                capsize=3,
                label=name,
            )
        right.plot(known["width"], known["loss"], color=color, lw=1)
        edge = wells[~wells["determined"]]
        left.plot(edge["width"], edge["log2_lr"], "x", color="grey")
    for ax, label in ((left, "log₂ η* (hidden learning rate)"), (right, "loss at η*, nats")):
        ax.set_xscale("log", base=2)
        ax.set(xlabel="width", ylabel=label)
        ax.xaxis.set_major_formatter("{x:g}")
    right.legend(fontsize=8)
    return figure


def plot_metrics(report: TransferReport) -> Figure:
    """E, κ and R(∞) with their intervals; what the data do not determine is grey."""
    frame = report.to_frame()
    names = [
        ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in row if v != 0.0)
        for row in frame[list(report.group_columns)].to_numpy()
    ]
    figure, axes = _figure(3, height=0.45 * len(names) + 1.6)
    for ax, (column, label) in zip(
        axes, (("E", "E, nats (log)"), ("kappa", "κ"), ("R", "R(∞), nats")), strict=True
    ):
        for y, (name, row) in enumerate(zip(names, frame.to_dict("records"), strict=True)):
            known = row[f"{column}_determined"]
            color = color_of(str(row.get("parameterization", name))) if known else "#b5b5b5"
            low, value, high = (row[f"{column}{end}"] for end in ("_low", "", "_high"))
            if np.isfinite([low, high]).all():
                ax.plot([low, high], [y, y], color=color, lw=2)
            ax.plot(value, y, "o", color=color)
            if not known:
                ax.annotate(
                    "not determined",
                    (0.98, y),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, 7),
                    textcoords="offset points",
                    fontsize=7,
                    color="#777777",
                    ha="right",
                )
        ax.set_yticks(range(len(names)), names if ax is axes[0] else [""] * len(names))
        ax.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
        spans = [frame[f"{column}{end}"].to_numpy() for end in ("_low", "", "_high")]
        shown = np.concatenate([s[frame[f"{column}_determined"].to_numpy(bool)] for s in spans])
        shown = shown[np.isfinite(shown)]
        if column == "E":
            log_axis(ax)
        else:
            ax.locator_params(axis="x", nbins=5)
        if column != "E" and len(shown):
            margin = max(0.5 * np.ptp(shown), 0.1)
            ax.set_xlim(shown.min() - margin, shown.max() + margin)
            ax.axvline(0, color="black", lw=0.8)
    return figure


def plot_gap(shares: pd.DataFrame) -> Figure:
    """Share of the SP→μP gap that a parameterization closes, against width (from
    :func:`hpt.gap_closed`)."""
    figure, (ax,) = _figure(1)
    known = shares[shares["determined"]]
    errors = np.abs(known[["share_low", "share_high"]].to_numpy().T - known["share"].to_numpy())
    ax.errorbar(
        known["width"],
        100 * known["share"],
        yerr=100 * errors,
        fmt="o-",
        color=color_of("SP+Embd"),
        capsize=3,
    )
    ax.axhline(100, color=color_of("μP"), lw=1, ls="--", label="μP")
    ax.axhline(0, color=color_of("SP"), lw=1, ls="--", label="SP")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="width", ylabel="share of the gap closed, %")
    ax.legend(fontsize=8)
    return figure


def plot_coord_check(check: CoordCheck, *, title: str = "") -> Figure:
    """Sizes at the last step against width, a panel a quantity, a line a role; slopes in the
    legend."""
    figure, axes = _figure(3)
    last = check.table[
        (check.table["step"] == check.table["step"].max()) & (check.table["rms"] > 0)
    ]
    titles = {
        "activation": "activations",
        "change": "their change",
        "update": "the layer's own ΔW·x",
    }
    for ax, (quantity, name) in zip(axes, titles.items(), strict=True):
        fits = check.slopes[check.slopes["quantity"] == quantity].set_index("role")
        for role, rows in last[last["quantity"] == quantity].groupby("role", sort=False):
            if role not in fits.index:
                continue
            log = np.log2(rows["rms"]).groupby([rows["width"], rows["seed"]]).mean()
            mean, spread = log.groupby("width").mean(), log.groupby("width").std(ddof=0)
            fit = fits.loc[role]
            ax.errorbar(
                mean.index,
                2**mean,
                yerr=[2**mean - 2 ** (mean - spread), 2 ** (mean + spread) - 2**mean],
                fmt="o-",
                ms=4,
                capsize=3,
                color=ROLE_COLORS[role],
                label=f"{role}: n^{fit['slope']:.2f} [{fit['low']:.2f}, {fit['high']:.2f}]",
            )
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set(title=name, xlabel="width")
        ax.legend(fontsize=7)
    axes[0].set_ylabel(f"root mean square after {check.table['step'].max()} steps")
    figure.suptitle(title or f"coordinate check of {check.rule}")
    return figure
