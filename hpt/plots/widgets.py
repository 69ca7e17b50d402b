"""Things to move in a notebook: they draw what is finished and never train.

Where no kernel is, a picture stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from hpt.errors import ConfigError
from hpt.metrics.quantities import DECAYS, value_text
from hpt.plots.display import figure_svg
from hpt.plots.style import add_note, new_figure
from hpt.runs.result import RunResult

#: A first look is at a rate so many octaves above the best: there is something to see.
FIRST_OCTAVES = 2
YOURS = "#c1443c"


class Explorer(ipywidgets.VBox):
    """Controls above a picture that is drawn anew when one of them moves.

    Parameters
    ----------
    draw: makes the figure; takes the value of each control.
    controls: widgets that have a value.
    """

    def __init__(self, draw: Callable[..., Figure], *controls: ipywidgets.Widget):
        self._make = draw
        self._controls = controls
        self._image = ipywidgets.Image(format="svg+xml")
        super().__init__([*controls, self._image])
        for control in controls:
            control.observe(self._draw, "value")
        self._draw()

    def _draw(self, _=None):
        self._figure = self._make(*(control.value for control in self._controls))
        self._image.value = figure_svg(self._figure).encode()

    def _repr_mimebundle_(self, **kwargs):
        return super()._repr_mimebundle_(**kwargs) | self._figure._repr_mimebundle_()


class RunExplorer(Explorer):
    """The basin of one parameterization and width, and beside it the loss curve at a learning rate.

    Weight decay and arm of the study are switches too, where runs differ in them.

    Parameters
    ----------
    runs: finished runs of a study, any parameterizations and widths; the first seed of each is shown.
    arms: of each run, the arm of its study, as :class:`hpt.study.references.Reference` has it.

    Raises
    ------
    ConfigError: where runs of one seed differ in something else.
    """

    def __init__(self, runs: Sequence[RunResult], arms: Sequence[str] | None = None):
        table = pd.DataFrame([run.row() for run in runs]).assign(arm=arms, run=list(runs))
        kept = min(DECAYS, key=lambda column: table[column].nunique())
        table["decay"] = [f"{DECAYS[kept]} = {value_text(value)}" for value in table[kept]]
        table["variant"] = table["parameterization"]
        switches = [column for column in ("variant", "arm", "decay") if table[column].nunique() > 1]
        cells = [*switches, "width"]
        if table.duplicated([*cells, "log2_lr", "seed"]).any():
            raise ConfigError(
                f"runs of one seed that agree in {cells} and the rate.",
                "they differ in another setting",
                "RunExplorer(reference.results, reference.arms)",
            )
        firsts = table.drop_duplicates([*cells, "log2_lr"])
        self._runs = {
            values: dict(zip(cell["log2_lr"], cell["run"], strict=True))
            for values, cell in firsts.groupby(cells)
        }
        widths = sorted(table["width"].unique())
        above = set()
        for cell in self._runs.values():
            above |= {rate - _best(cell) for rate in cell}
        first = min(above, key=lambda octaves: abs(octaves - FIRST_OCTAVES))
        slider = ipywidgets.SelectionSlider
        super().__init__(
            self._beside_best,
            *(
                ipywidgets.Dropdown(description=column, options=list(table[column].unique()))
                for column in switches
            ),
            slider(description="width", options=widths, value=widths[-1]),
            slider(description="above best", options=sorted(above), value=first, continuous_update=False),
        )

    def _beside_best(self, *values):
        """The run that lies so far above the best, or nearest to that, beside the best."""
        figure, (left, right) = new_figure(2)
        *switches, width, octaves = values
        name = ", ".join([*switches, f"width {width}"])
        cell = self._runs.get((*switches, width))
        if cell is None:
            figure.suptitle(f"{name}: not trained")
            return figure
        best = _best(cell)
        chosen = min(cell, key=lambda rate: abs(rate - best - octaves))
        _draw_cell(left, cell, chosen)
        _draw_curves(right, cell, best, chosen)
        price = cell[chosen].val_loss - cell[best].val_loss
        title = f"{name}: log₂ η = {chosen:g} costs {price:.3f} nats"
        figure.suptitle(title.replace("-", "−"))
        return figure


def _best(cell):
    """The learning rate of the lowest loss, log2."""
    return min(cell, key=lambda rate: cell[rate].val_loss)


def _draw_cell(ax, cell, chosen):
    """Final losses against the rate, the chosen one ringed."""
    rates = sorted(cell)
    losses = [cell[rate].val_loss for rate in rates]
    ax.plot(rates, losses, "o-", color="black", lw=1)
    ax.plot(chosen, cell[chosen].val_loss, "o", color=YOURS, mfc="none", ms=12, mew=2)
    ax.set(xlabel="log₂ η (hidden)", ylabel="validation loss, nats")


def _draw_curves(ax, cell, best, chosen):
    """The curve of the chosen rate over that of the best, each named where it ends."""
    for rate, color, name, up in ((best, "black", "best", -6), (chosen, YOURS, "yours", 6)):
        curve = pd.Series(cell[rate].train_loss).rolling(10, min_periods=1).mean()
        ax.plot(curve, color=color, lw=1.3)
        end = len(curve), curve.iloc[-1]
        add_note(ax, name, end, (5, up), color=color, annotation_clip=False)
    ax.set(xlabel="step", ylabel="training loss, nats (mean of 10 steps)")
