"""The tables that a notebook's cells show, set as those of the index, with the digits and names
that they have."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from itertools import zip_longest

from bs4 import BeautifulSoup, Tag

from hpt.notebooks.rendering import label, rendered

_NUMBER = r"[-−+]?(?:\d[\d,]*\.?\d*(?:e[-−+]?\d+)?|inf|∞)"
#: A cell of figures: nothing, or a number, maybe with a unit or in doubt, and maybe its interval.
_FIGURE = re.compile(
    rf"(?:NaN|nan|None|NaT|<NA>|—|)|({_NUMBER}(?: ?[%×])?\??)(?: \[({_NUMBER}), ({_NUMBER})\])?"
)
_TRUTHS = {"True": True, "False": False}


def set_table(table: Tag) -> None:
    """Replace a table by one as :func:`~hpt.notebooks.rendering.table_html` sets it.

    A table without a head, or with two columns of one name, stays as it is.
    """
    if not (table.thead and table.tbody):
        return
    heads = _columns(table.thead)
    # What stands above the names of rows names the columns.
    index = len(table.select("tbody tr:first-child th"))
    heads[:index] = [texts[-1:] for texts in heads[:index]]
    names = [" · ".join(filter(None, texts)) for texts in heads]
    columns = dict(zip(names, _columns(table.tbody), strict=False))
    if not columns or len(columns) < len(names):
        return
    if columns.get("") == [str(i) for i in range(len(columns[names[0]]))]:
        # The numbers of the rows.
        del columns[""]
    records = [_record(columns, row) for row in zip_longest(*columns.values(), fillvalue="")]
    numbers = {name: "" for name, texts in columns.items() if all(map(_FIGURE.fullmatch, texts))}
    labels = {name: label(name, list(columns)) for name in columns}
    new = BeautifulSoup(rendered(records, labels, numbers), "html.parser")
    new.table.insert(0, table.caption or "")
    table.replace_with(new)


def _columns(part):
    """The texts of a table's head or body by column; a cell that spans several rows is in each."""
    columns = defaultdict(list)
    for y, row in enumerate(part.find_all("tr")):
        x = 0
        for cell in row.find_all(["th", "td"]):
            text = cell.get_text(" ", strip=True)
            while len(columns[x]) > y:
                x += 1
            for _ in range(int(cell.get("colspan", 1))):
                columns[x] += [text] * int(cell.get("rowspan", 1))
                x += 1
    return list(columns.values())


def _record(names, row):
    """A row's values by column: text, truths, nan for what is missing; an interval in its own columns."""
    record = {}
    for name, text in zip(names, row, strict=True):
        record[name] = _TRUTHS.get(text, text)
        if found := _FIGURE.fullmatch(text.replace("-", "−").replace("inf", "∞")):
            number, low, high = found.groups()
            missing = "" if name.endswith("reason") else math.nan
            record[name] = number or missing
            if low:
                record |= {f"{name}_low": low, f"{name}_high": high}
    return record
