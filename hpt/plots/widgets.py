"""Things to move in a notebook: they draw finished runs and never train.

Where no kernel is, a picture stays.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import ipywidgets

from hpt.plots.figures import plot_loss_curves
from hpt.runs.result import RunResult


class RunExplorer(ipywidgets.VBox):
    """Loss curves of one parameterization and width, with a slider over the learning rate.

    Parameters
    ----------
    runs: finished runs of a study.
    """

    def __init__(self, runs: Sequence[RunResult]):
        self._runs = {}
        for run in runs:
            row = run.row()
            cell = self._runs.setdefault((row["parameterization"], row["width"]), {})
            cell.setdefault(row["log2_lr"], run)
        names, widths = zip(*self._runs, strict=True)
        self._name = ipywidgets.ToggleButtons(options=list(dict.fromkeys(names)))
        self._width = ipywidgets.SelectionSlider(
            description="width", options=sorted(set(widths)), value=max(widths)
        )
        self._lr = ipywidgets.SelectionSlider(description="log₂ η", options=[0.0], continuous_update=False)
        self._image = ipywidgets.Image(format="png")
        super().__init__([self._name, self._width, self._lr, self._image])
        self._name.observe(self._new_cell, "value")
        self._width.observe(self._new_cell, "value")
        self._lr.observe(self._draw, "value")
        self._new_cell()

    def _new_cell(self, _=None):
        rates = sorted(self._runs[self._name.value, self._width.value])
        self._lr.options = rates
        self._lr.value = rates[len(rates) // 2]
        self._draw()

    def _draw(self, _=None):
        name = self._name.value
        width = self._width.value
        cell = self._runs[name, width]
        best_lr, best = min(cell.items(), key=lambda tried: tried[1].val_loss)
        chosen = cell[self._lr.value]
        losses = f"final loss {chosen.val_loss:.3f} (best {best.val_loss:.3f})"
        figure = plot_loss_curves(
            [best, chosen],
            [f"best: log₂ η = {best_lr:g}", f"yours: log₂ η = {self._lr.value:g}"],
            title=f"{name}, width {width}: {losses}",
        )
        png = io.BytesIO()
        figure.savefig(png, format="png", bbox_inches="tight")
        self._image.value = png.getvalue()

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        return bundle | {"image/png": base64.b64encode(self._image.value).decode()}
