"""Colours, axes and markers that all figures share."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpt.parameterization.sixteen import PARAMETERIZATIONS

COLORS = {"SP": "#c1443c", "SP+Embd": "#2c6fbb", "μP": "#2a8a57", "μP-Embd": "#b8860b"}


STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "font.size": 10,
}


def color_of(name: str) -> str:
    """One colour a parameterization, the same in every figure."""
    return COLORS.get(name) or plt.get_cmap("tab20")(sum(map(ord, name)) % 20)


def _width_colors(widths: Sequence[int]) -> dict[int, tuple]:
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(widths)))
    return dict(zip(sorted(widths), shades, strict=True))


def _figure(columns: int, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            columns,
            figsize=(min(4.2 * columns, 12.6) if columns > 1 else 6.4, height),
            squeeze=False,
            layout="constrained",
        )
    plt.close(figure)  # shown as a value, once, and not again at the end of the cell
    return figure, list(axes[0])


def log_axis(ax: Axes) -> None:
    """A logarithmic x axis; of a decade or so with its ticks spelt out, since labels like 3×10⁻²
    run into another."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if high < 30 * low:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
        round_ones = [tick for tick in np.outer(decades, (1, 2, 5)).ravel() if low <= tick <= high]
        ax.set_xticks(round_ones if len(round_ones) > 1 else np.geomspace(1.3 * low, high / 1.3, 2))
        ax.xaxis.set_major_formatter("{x:.2g}")
        ax.minorticks_off()
        ax.set_xlim(low, high)


ROLE_COLORS = {
    "embedding": "#2c6fbb",
    "hidden": "#c1443c",
    "readout": "#b8860b",
    "vector": "#2a8a57",
    "fixed": "#777777",
}


GREY = "#a8a8a8"


MARKERS = "osD^vP*X"


MORE_COLORS = (
    "#7b4fa3",
    "#d97e1f",
    "#3aa6a0",
    "#8c5a3c",
    "#d65fa0",
    "#5a6b7d",
    "#9aa51e",
    "#6c8ee0",
    "#e08a8a",
    "#57b36a",
    "#3d3d7a",
    "#c9a227",
)


def color_of_variant(name: str) -> str:
    """One colour for each of the sixteen, those of :mod:`hpt.plots.figures` where it has one."""
    others = [str(p) for p in PARAMETERIZATIONS if str(p) not in COLORS]
    return MORE_COLORS[others.index(name) % len(MORE_COLORS)] if name in others else color_of(name)
