"""Looks into runs, drawn: sizes of weights and updates, and their alignment, by role."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

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
    table = _checked(table, quantity, x).dropna(subset=quantity)
    if x == "width":
        table = _at_step(table, step)
    lines = ["parameterization", "width"] if x == "step" else ["parameterization"]
    roles = list(dict.fromkeys(table["role"]))
    figure, axes = new_figure(len(roles))
    colors = _colors(table, lines)
    for ax, role in zip(axes, roles, strict=True):
        for key, rows in table[table["role"] == role].groupby(lines, sort=False):
            means = rows.groupby(x)[quantity].apply(lambda values: values.prod() ** (1 / len(values)))
            steps = means.index + 1 if x == "step" else means.index
            ax.plot(steps, means, "o-", ms=3, lw=1.2, color=colors[key], label=" ".join(map(str, key)))
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
    if step is not None:
        if step not in set(table["step"]):
            raise ConfigError(f"no look at step {step}.", f"there are some at {sorted(set(table['step']))}")
        return table[table["step"] == step]
    run = ["parameterization", "width", "lr", "weight_decay", "seed"]
    last = table.groupby(run)["step"].transform(lambda steps: sorted(set(steps))[-2:][0])
    return table[table["step"] == last]


def _colors(table, lines):
    """A colour a parameterization; of one alone, a shade a width."""
    keys = list(table[lines].drop_duplicates().itertuples(index=False, name=None))
    if len({name for name, *_ in keys}) == 1:
        return dict(zip(keys, shades(len(keys)), strict=True))
    return {key: color_of(key[0]) for key in keys}
