"""How a report prints."""

import dataclasses

import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.report import MOST_REMARKS
from hpt.metrics.transfer import transfer_report

LAWS = {
    "SP": Law(),
    "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.5),
    "μP": Law(L_inf=2.4, alpha=0.55, beta=1.0, gamma=1.7),
}
WIDTHS = (32, 64, 128, 256, 512)


def noisy(laws=LAWS, **changes):
    return synthetic_sweep(laws, **{"widths": WIDTHS, "noise": 0.005, "seeds": 2} | changes)


@pytest.fixture(scope="module")
def report():
    return transfer_report(noisy(), bootstraps=200)


def test_the_report_prints_as_a_small_table(report):
    text = str(report)
    assert all(name in text for name in (*LAWS, "κ", "R(∞)", "95 % intervals", "R against μP"))
    assert max(map(len, text.splitlines())) < 190
    undetermined = transfer_report(noisy({"a<b": Law(A=0.0)}), bootstraps=50)
    assert "not determined (L∞ at a bound)" in str(undetermined)
    html = undetermined._repr_html_()
    assert "a&lt;b" in html and "a<b" not in html and "color:#888" in html


def test_many_remarks_are_counted(report):
    notes = tuple(f"note {i}" for i in range(MOST_REMARKS + 3))
    text = str(dataclasses.replace(report, notes=notes))
    assert "… and 3 more: report.to_frame(), report.notes" in text and "note 13" not in text
