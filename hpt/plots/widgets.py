"""Things to move in a notebook: they draw finished runs and never train.

Where no kernel is, a picture stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import pandas as pd
from IPython.core.pylabtools import print_figure

from hpt.plots.style import add_note, new_figure
from hpt.runs.result import RunResult

#: A first look is at a rate so many octaves above the best: there is something to see.
FIRST_OCTAVES = 2
YOURS = "#c1443c"


class RunExplorer(ipywidgets.VBox):
    """The basin of one parameterization and width, and beside it the loss curve at a learning rate.

    Parameters
    ----------
    runs: finished runs of a study, any parameterizations and widths; the first seed of each is shown.
    """

    def __init__(self, runs: Sequence[RunResult]):
        self._runs = {}
        for run in runs:
            row = run.row()
            cell = self._runs.setdefault((row["parameterization"], row["width"]), {})
            cell.setdefault(row["log2_lr"], run)
        names, widths = zip(*self._runs, strict=True)
        variants = list(dict.fromkeys(names))
        self._name = ipywidgets.Dropdown(description="variant", options=variants)
        self._width = ipywidgets.SelectionSlider(
            description="width", options=sorted(set(widths)), value=max(widths)
        )
        self._lr = ipywidgets.SelectionSlider(description="log₂ η", options=[0.0], continuous_update=False)
        self._image = ipywidgets.Image(format="png")
        controls = [self._name, self._width, self._lr]
        if len(self._name.options) == 1:
            controls.remove(self._name)
        super().__init__([*controls, self._image])
        self._name.observe(self._new_cell, "value")
        self._width.observe(self._new_cell, "value")
        self._lr.observe(self._draw, "value")
        self._new_cell()

    @property
    def _cell(self):
        return self._runs.get((self._name.value, self._width.value), {})

    def _new_cell(self, _=None):
        """The rates of another variant or width, and one picture."""
        cell = self._cell
        rates = sorted(cell)
        if not rates:
            return
        best = min(cell, key=lambda rate: cell[rate].val_loss)
        wanted = best + FIRST_OCTAVES
        # Options and value are set at once, so that nothing between them is drawn.
        self._lr.unobserve(self._draw, "value")
        self._lr.options = rates
        self._lr.value = min(rates, key=lambda rate: abs(rate - wanted))
        self._lr.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None):
        figure, (left, right) = new_figure(2)
        cell = self._cell
        chosen = self._lr.value
        best = min(cell, key=lambda rate: cell[rate].val_loss)
        _draw_cell(left, cell, chosen)
        _draw_curves(right, cell, best, chosen)
        price = cell[chosen].val_loss - cell[best].val_loss
        title = f"{self._name.value}, width {self._width.value}: log₂ η = {chosen:g} costs {price:.3f} nats"
        figure.suptitle(title.replace("-", "−"))
        self._figure = figure
        self._image.value = print_figure(figure)

    def _repr_mimebundle_(self, **kwargs):
        picture, looks = self._figure._repr_mimebundle_()
        return super()._repr_mimebundle_(**kwargs) | picture, looks


def _draw_cell(ax, cell, chosen):
    """Final losses against the rate, the chosen one ringed."""
    rates = sorted(cell)
    losses = [cell[rate].val_loss for rate in rates]
    ax.plot(rates, losses, "o-", color="black", lw=1)
    ring = {"color": YOURS, "mfc": "none", "ms": 12, "mew": 2}
    ax.plot(chosen, cell[chosen].val_loss, "o", **ring)
    ax.set(xlabel="log₂ η (hidden)", ylabel="validation loss, nats")


def _draw_curves(ax, cell, best, chosen):
    """The curve of the chosen rate over that of the best, each named where it ends."""
    for rate, color, name in ((best, "black", "best"), (chosen, YOURS, "yours")):
        curve = pd.Series(cell[rate].train_loss).rolling(10, min_periods=1).mean()
        ax.plot(curve, color=color, lw=1.3)
        end = len(curve), curve.iloc[-1]
        add_note(ax, name, end, (5, 0), color=color, annotation_clip=False)
    ax.set(xlabel="step", ylabel="training loss, nats (mean of 10 steps)")
