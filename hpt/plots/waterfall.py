"""The gap between two parameterizations as a waterfall, a bar a step."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from hpt.metrics.quantities import signs
from hpt.plots.style import GREY, add_note, color_of, new_figure


def plot_waterfall(steps: pd.DataFrame) -> Figure:
    """What each step of a path gains at the largest width, a bar a step, which begins where the last one
    ended.

    The whiskers are the interval of the step; a grey bar is a step that is not told from zero. A bar
    that goes down costs.

    Parameters
    ----------
    steps: from :func:`hpt.gap_steps`, of one setting of its other columns.
    """
    scale_column = steps.columns.get_loc("from") - 1
    scale = steps.columns[scale_column]
    width = steps[scale].max()
    shown = steps[steps[scale] == width]
    unit = steps.attrs.get("unit", "nats")
    height = 0.5 * len(shown) + 1.6
    figure, (ax,) = new_figure(1, height=height)
    start = 0.0
    for y, step in enumerate(shown.itertuples()):
        _draw_step(ax, y, step, start, unit)
        start += step.gain
    # Room for the note of the longest bar.
    ax.margins(x=0.3)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(shown)), shown["to"])
    ax.invert_yaxis()
    first = shown["from"].iloc[0]
    ax.set_xlabel(f"{unit} below {first} at the best learning rate, {scale} {width:g}")
    return figure


def _draw_step(ax, y, step, start, unit):
    """One step as a bar that begins at ``start``, its whiskers, and what it says."""
    color = color_of(step.to) if step.determined else GREY
    ax.barh(y, step.gain, left=start, height=0.6, color=color)
    low = start + step.gain_low
    high = start + step.gain_high
    ax.plot([low, high], [y, y], color="black", lw=1.2)
    said = step.reason
    if pd.notna(step.gain):
        said = signs(f"{step.gain:+.3f} {unit}, {step.share:.0%}")
    rightmost = max(start, high)
    add_note(ax, said, (rightmost, y), (6, -3), fontsize=8)
