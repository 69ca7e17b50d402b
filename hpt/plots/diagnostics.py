"""Looks into runs, drawn: sizes of weights and updates, and their alignment, by role."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import gmean

from hpt.errors import ConfigError, did_you_mean
from hpt.plots.style import color_of, log_axis, new_figure, shades
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
    colors = _colors(table, lines)
    panels = dict(list(table.groupby("role", sort=False)))
    figure, axes = new_figure(len(panels))
    for ax, (role, looks) in zip(axes, panels.items(), strict=True):
        for key, rows in looks.groupby(lines, sort=False):
            means = rows.groupby(x)[quantity].apply(gmean)
            # Steps from 1: the axis is logarithmic.
            at = means.index + (x == "step")
            label = " ".join(map(str, key))
            ax.plot(at, means, "o-", ms=3, lw=1.2, color=colors[key], label=label)
        ax.set(title=role, xlabel=x, yscale="log")
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


def _colors(table, lines):
    """A colour a parameterization; of one alone, a shade a width."""
    keys = table[lines].drop_duplicates().itertuples(index=False, name=None)
    colors = {key: color_of(key[0]) for key in keys}
    if table["parameterization"].nunique() == 1:
        return dict(zip(colors, shades(len(colors)), strict=True))
    return colors
