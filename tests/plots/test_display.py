"""A figure in a notebook: told in words, sharp, and stacked for a phone."""

import base64

import pytest

from hpt.plots.display import NARROW, alt_text, stacked
from hpt.plots.style import new_figure


def drawn(panels):
    figure, axes = new_figure(panels, sharey=True)
    for i, ax in enumerate(axes):
        ax.plot([1, 2], [i, 1], label="16")
        ax.set(title=f"panel {i}", xlabel="log₂ η")
    axes[0].set_ylabel("loss, nats")
    axes[-1].legend(title="width")
    return figure


def test_the_text_tells_title_panels_axes_and_legend():
    figure = drawn(2)
    figure.suptitle("Basins of two")
    assert alt_text(figure) == "loss, nats against log₂ η: panel 0, panel 1, width, Basins of two"


def test_the_text_tells_the_names_of_rows_and_no_ticks_of_numbers():
    figure, (ax,) = new_figure(1)
    ax.barh([0, 1], [1, 2])
    ax.set_yticks([0, 1], ["Embd", "LN"])
    ax.set_xlabel("nats")
    assert alt_text(figure) == "nats: Embd, LN"


@pytest.mark.parametrize("panels, rows, columns", [(1, 1, 1), (3, 3, 1), (5, 3, 2)])
def test_a_phone_sees_panels_below_each_other(panels, rows, columns):
    figure = drawn(panels)
    size = list(figure.get_size_inches())
    grid = figure.axes[0].get_gridspec()
    narrow = stacked(figure)
    of_phone = narrow.axes[0].get_gridspec()
    assert (of_phone.nrows, of_phone.ncols) == (rows, columns)
    assert narrow.get_figwidth() < 5 and narrow.get_figheight() >= figure.get_figheight()
    leftmost = narrow.axes[::columns]
    assert {ax.get_ylabel() for ax in leftmost} == {"loss, nats"}
    assert [ax.get_title() for ax in narrow.axes] == [f"panel {i}" for i in range(panels)]
    assert list(figure.get_size_inches()) == size and figure.axes[0].get_gridspec() is grid


def test_a_notebook_gets_svg_with_its_text_and_one_for_phones():
    figure = drawn(2)
    bundle, metadata = figure._repr_mimebundle_()
    assert bundle["image/svg+xml"].startswith("<?xml") and bundle == drawn(2)._repr_mimebundle_()[0]
    address, _, data = bundle[NARROW].partition(",")
    assert address == "data:image/svg+xml;base64" and base64.b64decode(data).startswith(b"<?xml")
    assert metadata == {"image/svg+xml": {"alt": alt_text(figure)}}
