"""Any table as a DataFrame of pandas: files by their ending, frames of other libraries, Python's own.

Text files tell their own dialect: encoding (a byte-order mark, UTF-8, else Latin-1), lines of
comment, separator, decimal comma. Frames of polars, Arrow and others come through narwhals, which
needs none of them installed; spreadsheets through python-calamine, which reads a million rows in
seconds.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile

import fsspec
import narwhals as nw
import pandas as pd

from hpt.errors import TableError

PACKED = (".gz", ".xz", ".bz2", ".zst")
SEPARATORS = ("\t", ";", ",", "|")
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Blank cells; "nan" and "inf" are left to the column's own meaning.
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "-", "--"]
HEAD = 20
# Lines of comment, and the one in which Excel names its separator.
COMMENT = re.compile(r"^[ \t]*(#|%|//|sep=.$).*\n?", re.MULTILINE)
# '1,024' may be a thousand and 24: it is left alone.
DECIMAL_COMMA = re.compile(r"[+-]?(0,\d+|\d+,(\d{1,2}|\d{4,}))([eE][+-]?\d+)?")
REMEDY = "a DataFrame (pandas, polars, Arrow), a dict of columns, a list of rows, or a path to a file"


def read_frame(table: Any) -> pd.DataFrame:
    """A copy of a table as a DataFrame; columns that stood in the index are columns again.

    Raises
    ------
    TableError: for what is no table, a file that is missing, of an unknown kind, or damaged.
    """
    if isinstance(table, str | PathLike):
        return _read_file(str(table))
    if hasattr(table, "read"):
        content = table.read()
        return _text(content if isinstance(content, bytes) else content.encode())
    if isinstance(table, Mapping | list | tuple):
        return _own(table)
    if isinstance(table, pd.Series):
        table = table.to_frame(table.name if table.name is not None else "loss")
    if not isinstance(table, pd.DataFrame):
        table = _foreign(table)
    return _without_index(table)


def _foreign(table):
    """A frame of another library as one of pandas."""
    try:
        native = nw.from_native(table)
        return (native.collect() if isinstance(native, nw.LazyFrame) else native).to_pandas()
    except (TypeError, ImportError) as error:
        if hasattr(table, "to_pandas"):
            return table.to_pandas()
        kind = type(table).__name__
        cause = "nothing was passed" if table is None else str(error).splitlines()[0]
        raise TableError(f"A {kind} is no table.", cause, REMEDY) from None


def _own(table):
    """A dict of columns or a list of rows, which may be dicts in dicts."""
    try:
        if isinstance(table, Mapping):
            table = _unwrapped(table)
        first = next(iter(table), None)
        nested = isinstance(first, Mapping) and any(isinstance(v, Mapping) for v in first.values())
        return pd.json_normalize(list(table), sep="/") if nested else pd.DataFrame(table)
    except (ValueError, TypeError, AttributeError) as error:
        raise TableError(
            f"A {type(table).__name__} that is no table: {error}", "columns of unequal length", REMEDY
        ) from None


def _unwrapped(table):
    """A mapping's rows, taken out of what JSON of pandas or of a tracker has around them."""
    if {"columns", "data"} <= set(table):
        return pd.DataFrame(table["data"], columns=table["columns"])
    for part in table.values():
        if isinstance(part, list) and isinstance(next(iter(part), None), Mapping):
            return part
    return table


def _without_index(frame):
    """Named levels of the index as columns; the other labels stay, where they tell rows apart.

    Of columns of several levels those that are alike for all are dropped.
    """
    levels = range(frame.columns.nlevels)
    alike = [level for level in levels if frame.columns.get_level_values(level).nunique() == 1]
    if 0 < len(alike) < len(levels):
        frame = frame.droplevel(alike, axis=1)
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:
        frame = frame.reset_index(level=named)
    return frame.copy() if frame.index.is_unique else frame.reset_index(drop=True)


def _read_file(path):
    name = PurePosixPath(path.replace("\\", "/"))
    packed = name.suffix.lower() in PACKED
    try:
        if name.suffix.lower() == ".zip":
            with fsspec.open(path, "rb") as file:
                return _without_index(_from_zip(file, path))
        reader = _reader(name.with_suffix("") if packed else name, path)
        with fsspec.open(path, "rb", compression="infer" if packed else None) as file:
            return _without_index(reader(file.read()))
    except FileNotFoundError:
        raise TableError(f"There is no file '{path}'.", "a misspelt path", f"ls {name.parent}") from None
    except TableError:
        raise
    except Exception as error:  # each reader has its own kinds for a damaged file
        raise TableError(
            f"Cannot read '{path}': {error}",
            "the file is empty, damaged, or not what its ending says",
            "write it again with DataFrame.to_csv or to_parquet",
        ) from None


def _reader(name, path):
    """What reads a file of this name, by its ending."""
    ending = name.suffix.lower()
    if ending not in READERS:
        raise TableError(
            f"Cannot read '{path}' as a table.",
            f"its ending is {ending!r}; known: {', '.join(READERS)}, packed (.zip, {', '.join(PACKED)})",
            REMEDY,
        )
    return READERS[ending]


def _from_zip(file, path):
    """The one table in an archive, beside what a Mac adds to it."""
    with ZipFile(file) as archive:
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX/") and name[-1:] != "/"]
        if len(names) != 1:
            raise TableError(f"'{path}' holds {len(names)} files.", remedy="unpack the one that is the table")
        return _reader(PurePosixPath(names[0]), path)(archive.read(names[0]))


def _text(content: bytes) -> pd.DataFrame:
    """A table of separated values, of whatever dialect."""
    text = COMMENT.sub("", _decoded(content))
    lines = [line for line in text[:100_000].splitlines() if line.strip()]
    if not lines:
        raise TableError("The table is empty.", "a file without a line of data", REMEDY)
    separator = max(SEPARATORS, key=lambda mark: (lines[0].count(mark), -SEPARATORS.index(mark)))
    if separator not in lines[0]:
        separator = r"\s+"
    decimal = "," if separator != "," and _has_decimal_comma(lines[1:HEAD], separator) else "."
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        decimal=decimal,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=MISSING,
        low_memory=False,
    )


def _decoded(content):
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _has_decimal_comma(lines, separator):
    cells = [cell.strip().strip('"') for line in lines for cell in line.split(separator)]
    return any(DECIMAL_COMMA.fullmatch(cell) for cell in cells)


def _json(content: bytes) -> pd.DataFrame:
    """Rows, or columns, or one object a line."""
    text = _decoded(content).strip()
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    return _own(found if isinstance(found, dict | list) else [found])


def _buffered(reader, **options):
    return lambda content: reader(io.BytesIO(content), **options)


_sheet = _buffered(pd.read_excel, engine="calamine")
_feather = _buffered(pd.read_feather)
_parquet = _buffered(pd.read_parquet)
READERS = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat"), _text),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _json),
    **dict.fromkeys((".xlsx", ".xls", ".xlsb", ".ods"), _sheet),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), _feather),
    **dict.fromkeys((".parquet", ".pq"), _parquet),
}
