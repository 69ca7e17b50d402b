"""How figures are written: labels, an estimate with its interval, a group's name."""

import numpy as np
import pytest

from hpt.metrics.quantities import QUANTITIES, estimate_text, group_name
from hpt.metrics.verdicts import FIGURES


def test_every_figure_of_a_report_has_a_symbol_and_a_label():
    assert set(FIGURES) <= set(QUANTITIES)
    assert QUANTITIES["E"].labelled() == "E (nats)" and QUANTITIES["kappa"].labelled() == "κ"
    assert all(q.symbol for q in QUANTITIES.values())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.0123, 0.0101, 0.0149, True), "0.0123 [0.0101, 0.0149]"),
        ((-1.234, -2.5, 0.5, False), "−1.2? [−2.5, 0.5]"),
        ((12.3456, 2.0, 82.0, True), "12.3 [2.0, 82.0]"),
        ((0.5, 0.5, 0.5, True), "0.500 [0.500, 0.500]"),
        ((0.5, -np.inf, np.inf, False), "0.500? [−∞, ∞]"),
        ((0.5, 0.4, np.nan, False), "0.500? [0.400, ?]"),
        ((0.5, np.nan, np.nan, False), "0.500?"),
        ((np.nan, np.nan, np.nan, False), "—"),
    ],
)
def test_an_estimate_is_rounded_to_what_its_interval_warrants(values, text):
    assert estimate_text(*values) == text


def test_a_group_is_named_by_its_values():
    row = {"parameterization": "μP", "weight_decay": 0.1, "depth": 3, "width": 64}
    assert group_name(row, ("parameterization", "weight_decay", "depth")) == "μP λ=0.1 3"
    assert group_name(row, ()) == "all"
    assert group_name({"weight_decay": "none"}, ("weight_decay",)) == "λ=none"
    assert group_name({"dose": 0.3}, ("dose",)) == "ηλT=0.3"
