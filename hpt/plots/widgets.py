"""Things to move in a notebook: they draw finished runs, never train, and leave a picture where no
kernel is."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import ipywidgets
from matplotlib.figure import Figure

from hpt.plots.figures import plot_loss_curves
from hpt.runs.result import RunResult


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


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
            self._runs.setdefault((row["parameterization"], row["width"]), {}).setdefault(
                row["log2_lr"], run
            )
        self._name = ipywidgets.ToggleButtons(options=list(dict.fromkeys(n for n, _ in self._runs)))
        self._width = ipywidgets.SelectionSlider(
            description="width", options=sorted({w for _, w in self._runs})
        )
        self._lr = ipywidgets.SelectionSlider(
            description="log₂ η", options=[0.0], continuous_update=False
        )
        self._image = ipywidgets.Image(format="png")
        super().__init__([self._name, self._width, self._lr, self._image])
        for control in (self._name, self._width):
            control.observe(self._new_cell, "value")
        self._lr.observe(self._draw, "value")
        self._width.value = max(w for _, w in self._runs)
        self._new_cell()

    def _new_cell(self, _=None) -> None:
        rates = sorted(self._runs[self._name.value, self._width.value])
        middle = rates[len(rates) // 2]
        self._lr.options = rates
        self._lr.value = middle
        self._draw()

    def _draw(self, _=None) -> None:
        cell = self._runs[self._name.value, self._width.value]
        best = min(cell.values(), key=lambda r: r.val_loss)
        chosen = cell[self._lr.value]
        self._image.value = _png(
            plot_loss_curves(
                [best, chosen],
                [
                    f"best: log₂ η = {best.row()['log2_lr']:g}",
                    f"yours: log₂ η = {self._lr.value:g}",
                ],
                title=f"{self._name.value}, width {self._width.value}: final loss {chosen.val_loss:.3f} "
                f"(best {best.val_loss:.3f})",
            )
        )

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "image/png": base64.b64encode(self._image.value).decode()}, metadata
