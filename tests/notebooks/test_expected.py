"""The tables of expectations have every question, whole."""

from bs4 import BeautifulSoup
from expected import came_out, expected

from hpt.notebooks.claims import Verdict
from hpt.notebooks.expectations import Outcome
from hpt.notebooks.output_tables import set_table
from hpt.study.references import reference_definition


def rows_of(styler):
    """The texts of a table as a page sets it, row by row."""
    page = BeautifulSoup(styler.to_html(), "html.parser")
    set_table(page.table)
    return [[cell.get_text(strip=True) for cell in row.select("td")] for row in page.select("tbody tr")]


def test_every_expectation_is_told_whole():
    asked = reference_definition("decay")["expected"].values()
    rows = rows_of(expected("decay", "tokens_per_parameter"))
    assert rows[: len(asked)] == [["decay", each["question"], each["expected"]] for each in asked]
    assert rows[-1][0] == "tokens per parameter"


def test_outcomes_are_told_with_their_verdicts():
    outcome = Outcome("how much? " * 20, "little", "+0.1 [−0.1, +0.2] nats", Verdict.UNDETERMINED)
    [row] = rows_of(came_out([outcome]))
    assert row == [("how much? " * 20).strip(), "little", "+0.1 [−0.1, +0.2] nats", "undetermined"]
