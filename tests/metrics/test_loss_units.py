"""Losses that are no nats."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import TableError
from hpt.metrics.loss_units import in_nats
from hpt.metrics.transfer import transfer_report

NATS = pd.Series([2.0, 3.0, np.inf])


@pytest.mark.parametrize(
    ("values", "unit", "column"),
    [
        (np.exp(NATS), "perplexity", "loss"),
        (np.exp(NATS), None, "val_ppl"),
        (NATS / np.log(2), "bits", "loss"),
        (NATS / np.log(2), None, "val_bpb"),
        (NATS, "nats", "perplexity"),
        (NATS, None, "val_loss"),
    ],
)
def test_units_are_told_or_read_off_the_name(values, unit, column):
    notes = []
    found, said = in_nats(values, unit, column, notes)
    assert found.tolist() == pytest.approx(NATS.tolist()) and said == "nats"
    assert len(notes) == (unit is None and column != "val_loss")


def test_accuracies_and_errors_are_shares_of_mistakes():
    for values, unit in (
        ([0.7, 0.8], "accuracy"),
        ([70, 80], "accuracy"),
        ([0.3, 0.2], "error"),
        ([30, 20], "error"),
    ):
        found, said = in_nats(pd.Series(values, dtype=float), unit, "loss", [])
        assert found.tolist() == pytest.approx([0.3, 0.2]) and said == "error"


@pytest.mark.parametrize(
    ("values", "unit", "words"),
    [
        ([20.0, 30.0], None, "no loss in nats"),
        ([0.5, 2.0], "perplexity", "below 1"),
        ([150.0, 2.0], "error", "no share"),
        ([2.0], "ppl", "no unit"),
    ],
)
def test_what_cannot_be_is_refused(values, unit, words):
    with pytest.raises(TableError, match=words):
        in_nats(pd.Series(values), unit, "loss", [])


def test_labels_follow_the_unit():
    table = synthetic_sweep(Law(L_inf=0.1, A=1.0, curvature=0.02), noise=0.0005).rename(
        columns={"loss": "error"}
    )
    report = transfer_report(table, bootstraps=30)
    assert report.unit == "error" and "E (error)" in str(report) and "nats" not in str(report).splitlines()[1]
