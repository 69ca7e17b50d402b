"""The drawing of the roles says what the rules do, and shows every role and switch."""

from matplotlib.text import Text
from roles import LAYERS, draw_roles, said_of, sixteen_table

from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.display import alt_text, stacked


def test_the_table_has_the_sixteen():
    table = sixteen_table()
    assert list(table.index) == [p.name for p in PARAMETERIZATIONS]
    assert table.loc["SP+Embd", "embedding LR"] == "η·m"


def test_a_switch_says_what_it_changes():
    assert said_of("Embd") == "Embd: rate η·m,\nnot η"
    assert "1/√n · 1/√m,\nnot 1/√n" in said_of("Last")


def test_every_switch_and_role_is_drawn_and_told():
    figure = draw_roles()
    told = alt_text(figure)
    switches = {switch for _, _, switch in LAYERS if switch}
    assert switches == {"Embd", "LN", "Attn", "Last"}
    assert all(f"{switch}:" in told for switch in switches)
    assert {role for role, _, _ in LAYERS if role} == {"embedding", "vector", "hidden", "readout"}


def test_nothing_overlaps_on_a_phone():
    figure = stacked(draw_roles())
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in texts if text.axes and text in text.axes.texts]
    assert len(boxes) > 15
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
