"""Looks into runs, drawn: sizes of weights and updates, and their alignment, by role."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.stats import gmean

from hpt.errors import ConfigError, did_you_mean
from hpt.plots.style import color_of, log_axis, new_figure
from hpt.runs.diagnostics import LOOKED_AT


def plot_diagnostics(
    table: pd.DataFrame, quantity: str = "update", *, x: str = "step", step: int | None = None
) -> Figure:
    """A quantity of :func:`hpt.diagnostics_table` against step or width, a panel a role; both axes are
    logarithmic.

    Parameters
    ----------
    table: the looks of the runs to be drawn: take one learning rate for each parameterization and width,
        such as the best; several runs of one line (seeds) give their geometric mean.
    quantity: "weight_norm", "update", "weight_alignment" or "update_alignment".
    x: "step", a line a parameterization and width; or "width", a line a parameterization.
    step: with x="width", the step that is looked at; by default the last but one of the looks, when
        the rate is still full.

    Raises
    ------
    ConfigError: for an unknown quantity, axis or step, or a table without looks.
    """
    table = _checked(table, quantity, x)
    table = table.dropna(subset=quantity)
    lines = ["parameterization", "width"]
    if x == "width":
        table = _at_step(table, step)
        lines = ["parameterization"]
    label = table[lines].astype(str).agg(" ".join, axis=1)
    # Steps from 1: the axis is logarithmic.
    table = table.assign(label=label, step=table["step"] + 1)
    colors = _colors(table)
    panels = dict(list(table.groupby("role", sort=False)))
    figure, axes = new_figure(len(panels))
    for ax, (role, looks) in zip(axes, panels.items(), strict=True):
        means = {"estimator": gmean, "errorbar": None}
        looks_of_line = {"marker": "o", "ms": 4, "lw": 1.2, "legend": ax is axes[0]}
        sns.lineplot(looks, x=x, y=quantity, hue="label", palette=colors, ax=ax, **means, **looks_of_line)
        ax.set(title=role, xlabel=x, ylabel="", yscale="log")
        log_axis(ax)
    axes[0].set_ylabel(LOOKED_AT[quantity].partition(",")[0])
    axes[0].legend(fontsize=7)
    return figure


def _checked(table, quantity, x):
    """The table, where there is something to draw."""
    if quantity not in LOOKED_AT:
        raise ConfigError(f"no look has a {quantity!r}.", did_you_mean(quantity, LOOKED_AT))
    if x not in ("step", "width"):
        raise ConfigError(f"x={x!r}.", did_you_mean(x, ("step", "width")))
    if table.empty:
        raise ConfigError(
            "the table has no looks into runs.",
            "their configuration asks for none",
            "TrainConfig(diagnostics=6, …), then hpt.diagnostics_table(results)",
        )
    return table


def _at_step(table, step):
    """The looks at one step: by default each run's last but one."""
    if step is None:
        run = ["parameterization", "width", "lr", "weight_decay", "seed"]
        step = table.groupby(run)["step"].transform(_last_but_one)
    chosen = table[table["step"] == step]
    if chosen.empty:
        steps = sorted(set(table["step"]))
        raise ConfigError(f"no look at step {step}.", f"there are some at {steps}")
    return chosen


def _last_but_one(steps):
    found = sorted(set(steps))
    return found[-2:][0]


def _colors(table):
    """A colour a parameterization; of one alone, a shade a width."""
    name_of_line = table.groupby("label", sort=False)["parameterization"].first()
    if name_of_line.nunique() == 1:
        return dict(zip(name_of_line.index, sns.color_palette("viridis", len(name_of_line)), strict=True))
    return name_of_line.map(color_of).to_dict()
