"""A figure in a notebook: told in words, sharp, and stacked for a phone."""

import base64

import pytest
from bs4 import BeautifulSoup

from hpt.plots.display import alt_text, stacked
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


def test_a_notebook_gets_a_picture_that_fits_with_its_text_and_one_for_phones():
    figure = drawn(2)
    bundle = figure._repr_mimebundle_()
    assert bundle == drawn(2)._repr_mimebundle_()
    picture = BeautifulSoup(bundle["text/html"], "html.parser").picture
    assert picture.img["alt"] == alt_text(figure) and picture.img["style"] == "max-width: 100%"
    wide, narrow = map(read, (picture.img["src"], picture.source["srcset"]))
    assert wide == bundle["image/svg+xml"] != narrow
    assert wide.startswith("<?xml") and narrow.startswith("<?xml")


def read(address):
    """The SVG that an address holds."""
    kind, _, data = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()
