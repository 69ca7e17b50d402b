"""Tables as Markdown."""

import pandas as pd

from hpt.markdown import markdown_table


def test_a_table_has_a_line_a_row_and_keeps_its_bars():
    table = pd.DataFrame({"variant": ["a|b", "c"], "loss": [3.5, 4.0]})
    assert markdown_table(table).splitlines() == [
        "| variant | loss |",
        "| --- | --- |",
        "| a\\|b | 3.5 |",
        "| c | 4.0 |",
    ]
