"""What moves in a notebook."""

import ipywidgets

from hpt.plots.widgets import RunExplorer


def test_the_widget_draws_finished_runs_and_leaves_a_picture(runs):
    explorer = RunExplorer(runs)
    assert explorer._lr.options == tuple(r.row()["log2_lr"] for r in runs)
    before = explorer._image.value
    explorer._lr.value = explorer._lr.options[-1]
    after = bytes(explorer._image.value)
    assert after != bytes(before) and after.startswith(b"\x89PNG")
    data = explorer._repr_mimebundle_()
    assert data["image/png"].startswith("iVBOR") and "application/vnd.jupyter.widget-view+json" in data
    ipywidgets.Widget.close_all()
