"""Tables of pandas as the index sets its own."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from hpt.notebooks.output_tables import set_table


def shown(markup):
    """The page's table: its head, rows, and which heads stand to the right."""
    soup = BeautifulSoup(markup, "html.parser")
    set_table(soup.table)
    table = soup.table
    heads = table.find_all("th")
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all("td")] for row in table.tbody.find_all("tr")
    ]
    return ([head.get_text() for head in heads], rows, ["number" in head.get("class", []) for head in heads])


def of(frame):
    return shown(frame._repr_html_())


def test_digits_stay_and_figures_stand_to_the_right():
    frame = pd.DataFrame({"who": ["a-b", "info"], "cost": [0.25, -1.0], "size": [4096.0, 0.02]})
    head, rows, right = of(frame)
    assert (head, right) == (["who", "cost", "size"], [False, True, True])
    assert rows == [["a-b", "0.25", "4096.00"], ["info", "−1.00", "0.02"]]


def test_intervals_and_reasons_stand_in_the_cell_of_their_figure():
    frame = pd.DataFrame(
        {
            "E": [0.5, np.nan],
            "E_low": [0.25, np.nan],
            "E_high": [0.75, np.inf],
            "E_determined": [True, False],
            "E_reason": ["", "few widths"],
        },
        index=pd.Index(["SP", "μP"], name="parameterization"),
    )
    head, rows, right = of(frame)
    assert head == ["variant", "E (nats)"] and right == [False, True]
    assert rows == [["SP", "0.5 0.25 … 0.75"], ["μP", "– few widths"]]


def test_an_interval_in_brackets_is_one():
    markup = (
        "<table><thead><tr><th>of</th><th>κ</th></tr></thead><tbody>"
        "<tr><td>SP</td><td>0.5? [-0.1, inf]</td></tr><tr><td>μP</td><td>—</td></tr>"
        "<tr><td>x</td><td>1 %</td></tr></tbody></table>"
    )
    assert shown(markup) == (["of", "κ"], [["SP", "0.5? −0.1 … ∞"], ["μP", "–"], ["x", "1 %"]], [False, True])


def test_heads_of_two_levels_and_rows_that_span_become_one_line_each():
    index = pd.MultiIndex.from_product([["SP"], [16, 32]], names=["parameterization", "width"])
    columns = pd.MultiIndex.from_tuples([("paper", "E"), ("0.5", "0.5")])
    head, rows, _ = of(pd.DataFrame([[1, 2], [3, 4]], index, columns))
    assert head == ["variant", "width", "paper · E", "0.5 · 0.5"]
    assert rows == [["SP", "16", "1", "2"], ["SP", "32", "3", "4"]]


def test_what_names_the_columns_is_no_name_of_the_rows():
    losses = pd.DataFrame({"width": [16, 32], "parameterization": ["SP", "μP"], "loss": [4.5, 4.2]})
    head, rows, _ = of(losses.pivot(index="width", columns="parameterization", values="loss"))
    assert head == ["width", "SP", "μP"] and rows == [["16", "4.5", "–"], ["32", "–", "4.2"]]


def test_a_column_that_says_nothing_is_left_out():
    frame = pd.DataFrame({"width": [16, 32], "edge": [None, None], "determined": [True, True]})
    assert of(frame)[0] == ["width"]
    frame = pd.DataFrame({"width": [16, 32], "edge": [None, "high"], "determined": [True, False]})
    assert of(frame)[0] == ["width", "at grid edge", "determined"]


@pytest.mark.parametrize(
    "markup",
    [
        "<table><tr><td>1</td></tr></table>",
        "<table><thead><tr><th>a</th><th>a</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
        "<table><thead><tr><th>a</th></tr></thead><tbody></tbody></table>",
    ],
)
def test_other_tables_stay_as_they_are(markup):
    soup = BeautifulSoup(markup, "html.parser")
    set_table(soup.table)
    assert str(soup) == markup
