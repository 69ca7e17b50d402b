"""The page of the replication: every number from its report, every figure beside it."""

import re

import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.markdown import markdown_table
from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import Answer, Claim, Verdict
from hpt.notebooks.expectations import findings
from hpt.notebooks.replication import Told, figures_table, replication_page
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.study.references import Reference, reference_definition

CLAIMS = [
    Claim("Lingle", "it transfers", "yes", "drift", "", Answer("0.3", Verdict.UNDETERMINED, "few runs"), "r")
]
MADE = {"processor": "a processor", "date": "2026-11-26 12:00 +0000"}


@pytest.fixture(scope="module")
def told():
    laws = {str(p): Law(L_inf=2.8 - 0.3 * p.embd) for p in PARAMETERIZATIONS}
    sweep = synthetic_sweep(laws, widths=(16, 32, 64, 128), count=5, noise=0.005, seeds=2, seed=4)
    definition = reference_definition("sixteen")
    manifest = {
        "runs": 640,
        "planned": 640,
        "command": "make reference NAMES=sixteen",
        "question": definition["question"],
        "expected": definition["expected"],
        "seconds": 1234,
        "text": {"packages": {"torch": "2.13.0"}, "train_tokens": 58_600_000},
        "made": [MADE],
    }
    study = Reference("sixteen", "quick", manifest, (), ())
    report = transfer_report(sweep, bootstraps=40)
    return Told(study, report, findings(study, report))


def test_the_page_has_every_variant_figure_and_command(told, tmp_path):
    page = replication_page([told], CLAIMS, tmp_path / "replication")
    for name in map(str, PARAMETERIZATIONS):
        assert f"| {name} | " in page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert len(pictures) == 3 and all((tmp_path / picture).stat().st_size > 1000 for picture in pictures)
    for words in (
        "make reference NAMES=sixteen",
        "a processor",
        "58.6 million tokens",
        "`decay`: ",
        "16, 32, 64, 128",
        "| Lingle: it transfers | yes | nothing was written down | 0.3 | **undetermined**: few runs | r |",
    ):
        assert words in page
    assert page.count("which share of the loss") == 1 and "holds" in page
    # Nothing was escaped for HTML, and no value is missing.
    assert not re.search(r"&\w+;|None|nan|\{\{", page)


def test_what_is_not_determined_has_its_reason(told):
    few = told.report.table.query("width > 32")
    table = figures_table(transfer_report(few, bootstraps=40))
    assert table["R(∞) (nats)"].str.contains("too few widths").all() or "too few" in table.to_string()
    assert "a\\|b" in markdown_table(table.assign(variant="a|b"))
