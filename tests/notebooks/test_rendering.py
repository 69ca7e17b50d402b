"""Values as HTML: formulas, and tables with their intervals."""

import html
import math
import re

import numpy as np
import pandas as pd
import pytest

from hpt.notebooks.rendering import mathml, plain, table_html, with_math


def test_a_formula_that_cannot_be_set_is_shown_and_told():
    with pytest.warns(UserWarning, match=r"nonsense.*cannot be set"):
        assert mathml(r"\nonsense <x>") == '<code class="tex">\\nonsense &lt;x&gt;</code>'


def test_formulas_in_text_keep_their_punctuation():
    shown = with_math("a < $n$, or ($x$).")
    assert shown.startswith('a &lt; <span class="fixed"><math>') and shown.count("<math") == 2
    assert "</math>,</span>" in shown and "</math>).</span>" in shown


@pytest.mark.parametrize(
    "value, text",
    [(1234567, "1,234,567"), (True, "True"), ([16, 2048], "16, 2,048"), ({"a": [1, "b"]}, "a = 1, b")],
)
def test_values_are_written_plainly(value, text):
    assert plain(value) == text


def cells(table):
    rows = re.findall(r"<tr>(.*?)</tr>", table_html(table), re.DOTALL)
    strip = [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in rows
    ]
    return strip[0], strip[1:]


def test_a_table_shows_intervals_reasons_and_gaps():
    head, rows = cells(
        pd.DataFrame(
            {
                "parameterization": ["SP", "μP"],
                "width": [32, 64],
                "loss": [3.4567, np.nan],
                "loss_low": [3.45, np.nan],
                "loss_high": [3.4612, np.nan],
                "kappa": [-0.25, math.inf],
                "kappa_determined": [True, False],
                "kappa_reason": ["", "too few widths"],
                "determined": [True, False],
                "reason": ["", "edge & more"],
            }
        )
    )
    assert head == ["variant", "width", "L* (nats)", "κ", "determined"]
    assert rows == [
        ["SP", "32", "3.457 3.450 … 3.461", "−0.250", "yes"],
        ["μP", "64", "–", "∞too few widths", "noedge & more"],
    ]


@pytest.mark.parametrize(
    "values, shown",
    [
        ([128.25, 64.5], ["128.2", "64.5"]),
        ([0.0486, 0.00037], ["0.0486", "0.00037"]),
        ([0.31, -0.045], ["0.310", "−0.045"]),
        ([3, 2048], ["3", "2048"]),
        ([0.0, 0.0], ["0", "0"]),
        ([True, False], ["yes", "no"]),
        (["a_b*", None], ["a_b*", "–"]),
    ],
)
def test_figures_are_rounded_to_what_a_column_needs(values, shown):
    assert [row[0] for row in cells(pd.DataFrame({"x": values}))[1]] == shown


def test_an_index_with_names_becomes_columns():
    head, rows = cells(pd.DataFrame({"E": [0.5]}, index=pd.Index(["SP"], name="parameterization")))
    assert (head, rows) == (["variant", "E (nats)"], [["SP", "0.500"]])


def test_what_is_not_determined_is_weak():
    table = pd.DataFrame({"E": [0.5, 0.25], "E_determined": [True, False], "E_reason": ["", "few"]})
    assert table_html(table).count('<div class="weak">') == 1
    assert cells(table)[1] == [["0.500"], ["0.250few"]]


def test_penalties_by_width_are_named_so():
    assert cells(pd.DataFrame({"width": [32], "R": [0.5]}))[0] == ["width", "R(n) (nats)"]
    assert cells(pd.DataFrame({"R": [0.5]}))[0] == ["R(∞) (nats)"]


@pytest.mark.parametrize(
    "table, is_cards",
    [
        # Six columns of short figures fit a phone, as four short words do.
        (pd.DataFrame({f"x{i}": [0.25, -0.5] for i in range(6)}), False),
        (pd.DataFrame({"role": ["hidden"], "of": ["update"], "slope": [0.1], "trend": ["flat"]}), False),
        # Wide figures, and sentences, do not.
        (pd.DataFrame({f"x{i}": [123456.5, -0.5] for i in range(6)}), True),
        (pd.DataFrame({"question": ["how much? " * 5], "expected": ["little"], "verdict": ["holds"]}), True),
    ],
)
def test_a_table_becomes_cards_on_a_phone_where_it_would_not_fit(table, is_cards):
    assert (" cards" in table_html(table)) == is_cards
