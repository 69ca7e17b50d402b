"""What moves in a notebook."""

import ipywidgets
import pytest

import hpt
from hpt.errors import ConfigError
from hpt.plots.style import new_figure
from hpt.plots.widgets import Explorer, RunExplorer


@pytest.fixture
def drawn(monkeypatch):
    """How often a picture was made."""
    count = []
    draw = Explorer._draw
    monkeypatch.setattr(Explorer, "_draw", lambda self, change=None: (count.append(1), draw(self)))
    yield count
    ipywidgets.Widget.close_all()


def test_the_picture_follows_the_controls_and_stays_without_a_kernel(drawn):
    def draw(name, power):
        figure, (ax,) = new_figure(1)
        ax.set_title(f"{name} to the {power}")
        return figure

    powers = ipywidgets.SelectionSlider(description="power", options=[0, 1, 2])
    explorer = Explorer(draw, ipywidgets.Dropdown(description="name", options=["a", "b"]), powers)
    before = explorer._image.value
    powers.value = 2
    assert len(drawn) == 2 and explorer._image.value != before
    data = explorer._repr_mimebundle_()
    assert "a to the 2" in data["text/html"]
    assert data["image/svg+xml"].encode() == bytes(explorer._image.value)
    assert "application/vnd.jupyter.widget-view+json" in data


def test_runs_of_one_variant_need_no_menu(runs, drawn):
    explorer = RunExplorer(runs)
    width, octaves = explorer._controls
    assert len(drawn) == 1 and width.options == (16,)
    losses = {r.row()["log2_lr"]: r.val_loss for r in runs}
    best = min(losses, key=losses.get)
    assert octaves.options == tuple(sorted(rate - best for rate in losses))
    before = explorer._image.value
    octaves.value = next(other for other in octaves.options if other != octaves.value)
    assert len(drawn) == 2 and explorer._image.value != before
    assert "costs" in explorer._repr_mimebundle_()["text/html"]


def test_a_move_is_one_picture_two_octaves_above_the_best(drawn):
    study = hpt.reference("sixteen")
    explorer = RunExplorer(study.results)
    variant, width, octaves = explorer._controls
    assert len(variant.options) == 16 and (width.value, octaves.value) == (128, 2)
    losses = (
        study.table.query("seed == 0")
        .set_index(["parameterization", "width", "log2_lr"])["loss"]
        .sort_index()
    )
    moves = [(width, 16), (variant, "μP"), (width, 64), (octaves, -1.0)]
    for number, (control, value) in enumerate(moves, start=2):
        control.value = value
        assert len(drawn) == number
    best = losses["μP", 64].idxmin()
    price = losses["μP", 64, best - 1] - losses["μP", 64].min()
    assert f"log₂ η = −{1 - best:g} costs {price:.3f} nats" in explorer._figure._suptitle.get_text()


def test_a_width_that_was_not_trained_says_so(drawn):
    runs = [
        r
        for r in hpt.reference("sixteen").results
        if (str(r.config.parameterization), r.config.model.width) in {("SP", 16), ("SP", 32), ("μP", 32)}
    ]
    explorer = RunExplorer(runs)
    variant, width, _ = explorer._controls
    variant.value = "μP"
    width.value = 16
    assert "μP, width 16: not trained" in explorer._figure._suptitle.get_text()


def test_arm_and_dose_are_switches(drawn):
    study = hpt.reference("decay")
    explorer = RunExplorer(study.results, study.arms)
    variant, arm, decay, width, octaves = explorer._controls
    assert [menu.description for menu in (variant, arm, decay)] == ["variant", "arm", "decay"]
    arm.value, decay.value, width.value, octaves.value = "hidden matrices only", "ηλT = 10", 64, 1
    of_sp = study.table.query("parameterization == 'SP' and width == 64 and seed == 0")
    losses = of_sp.query("arm == 'hidden matrices only' and dose == 10").set_index("log2_lr")["loss"]
    price = losses[losses.idxmin() + 1] - losses.min()
    title = explorer._figure._suptitle.get_text()
    assert title.startswith("SP, hidden matrices only, ηλT = 10, width 64") and f"{price:.3f} nats" in title
    with pytest.raises(ConfigError, match="differ in another setting"):
        RunExplorer(study.results)
