"""Looks into runs, drawn."""

import dataclasses

import numpy as np
import pytest

from hpt.errors import ConfigError
from hpt.plots.diagnostics import plot_diagnostics
from hpt.runs.diagnostics import diagnostics_table
from hpt.training.loop import train


@pytest.fixture(scope="module")
def table(tiny_run):
    train_config = dataclasses.replace(tiny_run.train, diagnostics=3)
    run = dataclasses.replace(tiny_run, train=train_config)
    widths = [dataclasses.replace(run.model, width=width) for width in (8, 16)]
    runs = [dataclasses.replace(run, model=m, parameterization=p) for m in widths for p in ("SP", "μP")]
    return diagnostics_table(map(train, runs))


def test_a_panel_a_role_and_a_line_a_width_against_the_step(table):
    figure = plot_diagnostics(table.query("parameterization == 'SP'"), "update")
    assert [ax.get_title() for ax in figure.axes] == ["embedding", "vector", "hidden", "readout"]
    narrow, wide = figure.axes[2].lines
    rows = table.query("parameterization == 'SP' and role == 'hidden' and width == 16")
    np.testing.assert_allclose(wide.get_ydata(), rows["update"])
    assert wide.get_xdata().tolist() == (rows["step"] + 1).tolist()
    assert narrow.get_color() != wide.get_color()
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["SP 8", "SP 16"]


def test_against_the_width_at_the_last_full_rate(table):
    figure = plot_diagnostics(table, "update_alignment", x="width")
    assert [ax.get_title() for ax in figure.axes] == ["embedding", "hidden", "readout"]
    sp, _ = figure.axes[1].lines
    full_rate = sorted(set(table["step"]))[-2]
    rows = table.query(f"parameterization == 'SP' and role == 'hidden' and step == {full_rate}")
    np.testing.assert_allclose(sp.get_ydata(), rows["update_alignment"])
    assert sp.get_xdata().tolist() == [8, 16]
    first = plot_diagnostics(table, "update_alignment", x="width", step=0).axes[1].lines[0]
    assert not np.allclose(first.get_ydata(), sp.get_ydata())


def test_what_cannot_be_drawn_is_refused(table):
    for call, said in (
        (lambda: plot_diagnostics(table, "updat"), "'update'"),
        (lambda: plot_diagnostics(table, x="steps"), "'step'"),
        (lambda: plot_diagnostics(table, x="width", step=1000), "there are some at"),
        (lambda: plot_diagnostics(diagnostics_table([])), "diagnostics=6"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
