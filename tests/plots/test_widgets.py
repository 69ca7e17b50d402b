"""What moves in a notebook."""

import ipywidgets
import pytest

import hpt
from hpt.plots.widgets import RunExplorer


@pytest.fixture
def drawn(monkeypatch):
    """How often a picture was made."""
    count = []
    draw = RunExplorer._draw
    monkeypatch.setattr(RunExplorer, "_draw", lambda self, change=None: (count.append(1), draw(self)))
    yield count
    ipywidgets.Widget.close_all()


def test_the_widget_draws_finished_runs_and_leaves_a_picture(runs, drawn):
    explorer = RunExplorer(runs)
    assert explorer._lr.options == tuple(r.row()["log2_lr"] for r in runs)
    assert len(drawn) == 1 and explorer._name not in explorer.children
    before = explorer._image.value
    other = next(rate for rate in explorer._lr.options if rate != explorer._lr.value)
    explorer._lr.value = other
    after = bytes(explorer._image.value)
    assert len(drawn) == 2 and after != bytes(before) and after.startswith(b"\x89PNG")
    data, metadata = explorer._repr_mimebundle_()
    assert data["image/svg+xml"].startswith("<?xml") and "costs" in metadata["image/svg+xml"]["alt"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_move_is_one_picture_two_octaves_above_the_best(drawn):
    study = hpt.reference("sixteen")
    explorer = RunExplorer(study.results)
    assert len(explorer._name.options) == 16 and explorer._width.value == 128
    table = (
        study.table.query("seed == 0")
        .set_index(["parameterization", "width", "log2_lr"])["loss"]
        .sort_index()
    )
    moves = [(explorer._width, 16), (explorer._name, "μP"), (explorer._width, 64), (explorer._lr, -9.0)]
    for number, (control, value) in enumerate(moves, start=2):
        control.value = value
        assert len(drawn) == number
    explorer._width.value = 32
    best = table["μP", 32].idxmin()
    assert explorer._lr.value == best + 2
