"""How a report prints."""

import dataclasses

from known_laws import LAWS, noisy

from hpt.analysis.synthetic import Law
from hpt.metrics.report import MOST_REMARKS
from hpt.metrics.transfer import transfer_report


def test_the_report_prints_as_a_small_table(report):
    text = str(report)
    assert all(name in text for name in (*LAWS, "κ", "R(∞)", "95 % intervals", "R against μP"))
    assert max(map(len, text.splitlines())) < 190
    undetermined = transfer_report(noisy({"a<b": Law(A=0.0)}), bootstraps=50)
    assert "not determined (L∞ at a bound)" in str(undetermined)
    html = undetermined._repr_html_()
    assert "a&lt;b" in html and "a<b" not in html


def test_many_remarks_are_counted(report):
    notes = tuple(f"note {i}" for i in range(MOST_REMARKS + 3))
    text = str(dataclasses.replace(report, notes=notes))
    assert "… and 3 more: report.to_frame(), report.notes" in text and "note 13" not in text
