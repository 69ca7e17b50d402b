"""How a figure shows itself in a notebook: sharp at any size, told in words, and for a phone with its panels
below each other."""

from __future__ import annotations

import base64
import html
import pickle

import matplotlib.pyplot as plt
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.text import Text

#: What a page shows: no wider than its place is, and on a phone the panels below each other.
PICTURE = """<picture><source media="(max-width: 600px)" srcset="{narrow}">\
<img style="max-width: 100%" alt="{alt}" src="{wide}"></picture>"""
NARROW_INCHES = 4.6
#: So many panels stand below each other for a phone; more stand in two columns.
STACKED = 4


class ShownFigure(Figure):
    """A figure that a notebook shows as SVG that fits its place, with a text for those who cannot see it."""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        svg = figure_svg(self)
        narrow = _address(figure_svg(stacked(self)))
        picture = PICTURE.format(narrow=narrow, wide=_address(svg), alt=html.escape(alt_text(self)))
        return {"image/svg+xml": svg, "text/html": picture}


def _address(svg):
    """An address that holds a picture."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def alt_text(figure: Figure) -> str:
    """What a figure shows, in words: y against x, then all else that is written in it, each once."""
    first = figure.axes[0]
    y = first.get_ylabel()
    x = first.get_xlabel()
    drawn = f"{y} against {x}" if y else x
    written = dict.fromkeys(text.get_text() for text in figure.findobj(Text))
    names = [text for text in written if text[:1].isalpha() and text not in drawn]
    return f"{drawn}: {', '.join(names)}"


def stacked(figure: Figure) -> Figure:
    """A copy of a figure for a phone: its panels below each other, of many two side by side."""
    copy = pickle.loads(pickle.dumps(figure))
    axes = copy.axes
    columns = 2 if len(axes) > STACKED else 1
    rows = -(-len(axes) // columns)
    height = copy.get_figheight() / axes[0].get_gridspec().nrows
    grid = GridSpec(rows, columns, figure=copy)
    y_label = axes[0].get_ylabel()
    for i, ax in enumerate(axes):
        ax.set_subplotspec(grid[i])
    for ax in axes[::columns]:
        ax.tick_params(labelleft=True)
        if not ax.get_ylabel():
            ax.set_ylabel(y_label)
    if columns > 1:
        plt.setp([ax.title for ax in axes], fontsize=7)
    copy.set_size_inches(NARROW_INCHES, rows * height)
    return copy


def figure_svg(figure: Figure) -> str:
    """A figure as SVG, the same text for figures made alike."""
    with plt.rc_context({"svg.hashsalt": "hpt"}):
        return print_figure(figure, fmt="svg", metadata={"Date": None})
