"""Any table as a DataFrame of pandas: files by their ending, frames of other libraries, Python's own.

Text files tell their own dialect: encoding (UTF-8, 16 or 32, with a byte-order mark or without, else
Latin-1), lines of comment, separator, decimal comma. Frames of polars, Arrow and others come through
narwhals, which needs none of them installed; spreadsheets through python-calamine, which reads a
million rows in seconds. The words that mean something in a cell or a name stand in words.toml.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import PurePosixPath
from typing import Any
from zipfile import ZipFile

import fsspec
import narwhals as nw
import numpy as np
import pandas as pd

from hpt.errors import TableError
from hpt.files import read_toml

WORDS = read_toml("hpt.metrics", "words.toml")
PACKED = (".gz", ".xz", ".bz2")
SEPARATORS = ("\t", ";", ",", "|")
HEAD = 20
# Lines of comment, the one in which Excel names its separator, and the rule below a header of Markdown.
COMMENT = re.compile(r"^[ \t]*(#|%|//|sep=.$|[|: -]*--[|: -]*$).*\n?", re.MULTILINE)
# Beside decimal commas 1.024 is a thousand and 24.
THOUSANDS = r"^([1-9]\d{0,2})\.(\d{3})(?:\.(\d{3}))?$"
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
        if isinstance(content, str):
            content = content.encode()
        return _guarded(lambda: _text(content), "the text")
    if isinstance(table, Iterator):
        table = list(table)
    if isinstance(table, Mapping | list | tuple | np.ndarray):
        table = _own(table)
    if isinstance(table, pd.Series):
        table = table.to_frame(table.name or "loss")
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
        cause = "nothing was passed" if table is None else str(error).splitlines()[0]
        raise TableError(f"A {type(table).__name__} is no table.", cause, REMEDY) from None


def _own(table):
    """A dict of columns or of rows, a list of rows, which may be dicts in dicts, or a structured array."""
    try:
        if isinstance(table, Mapping):
            table = _unwrapped(table)
        first = next(iter(table), None)
        if isinstance(first, Mapping):
            nested = any(isinstance(value, Mapping) for value in first.values())
            return pd.json_normalize(list(table), sep="/") if nested else pd.DataFrame(table)
        return pd.DataFrame(table)
    except (ValueError, TypeError, AttributeError) as error:
        raise TableError(f"No table: {error}", "columns of unequal length", REMEDY) from None


def _unwrapped(table):
    """A mapping's rows, taken out of what JSON of pandas or of a tracker has around them."""
    if {"columns", "data"} <= set(table):
        return pd.DataFrame(table["data"], columns=table["columns"])
    parts = list(table.values())
    for part in parts:
        if isinstance(part, list) and isinstance(next(iter(part), None), Mapping):
            return part
    if parts and all(isinstance(part, Mapping) for part in parts) and _are_names(parts[0]):
        return parts
    return table


def _are_names(keys):
    """Whether the keys of a mapping name columns, and are no numbers of rows."""
    return not any(re.fullmatch(r"[-+.\de]+", str(key)) for key in keys)


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

    def read():
        reader = _reader(name.with_suffix("") if packed else name)
        with fsspec.open(path, "rb", compression="infer" if packed else None) as file:
            return reader(file.read())

    try:
        return _guarded(read, f"'{path}'")
    except FileNotFoundError:
        raise TableError(f"There is no file '{path}'.", "a misspelt path", f"ls {name.parent}") from None


def _guarded(read, what):
    """What is read; that it cannot be, where it cannot."""
    try:
        return _without_index(read())
    except (TableError, FileNotFoundError):
        raise
    except Exception as error:  # each reader has its own kinds for a damaged file
        raise TableError(
            f"Cannot read {what}: {error}",
            "it is empty, damaged, or not what its ending says",
            "give the path of a file, written with DataFrame.to_csv or to_parquet",
        ) from None


def _reader(name):
    """What reads a file of this name, by its ending."""
    for endings, reader in READERS.items():
        if name.suffix.lower() in endings.split():
            return reader
    known = " ".join((*READERS, *PACKED))
    raise TableError(
        f"Cannot read '{name}' as a table.", f"its ending is {name.suffix!r}; known: {known}", REMEDY
    )


def _zip(content):
    """The one table in an archive, beside what a Mac adds to it."""
    with ZipFile(io.BytesIO(content)) as archive:
        names = [n for n in archive.namelist() if not n.startswith("__MACOSX/") and not n.endswith("/")]
        if len(names) != 1:
            raise TableError(
                f"The archive holds {len(names)} files.", remedy="unpack the one that is the table"
            )
        return _reader(PurePosixPath(names[0]))(archive.read(names[0]))


def _text(content):
    """A table of separated values, of whatever dialect."""
    text = COMMENT.sub("", _decoded(content))
    lines = [line for line in text[:100_000].splitlines() if line.strip()]
    if not lines:
        raise TableError("The table is empty.", "a file without a line of data", REMEDY)
    separator = max(SEPARATORS, key=lambda mark: (lines[0].count(mark), -SEPARATORS.index(mark)))
    if separator not in lines[0]:
        separator = r"\s+"
    decimal = "," if separator != "," and _has_decimal_comma(lines[1:HEAD], separator) else "."
    frame = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        decimal=decimal,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=WORDS["missing"],
        low_memory=False,
    )
    if decimal == ",":
        frame = frame.replace(THOUSANDS, r"\1\2\3", regex=True)
    return frame


def _decoded(content):
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _has_decimal_comma(lines, separator):
    cells = [cell.strip().strip('"') for line in lines for cell in line.split(separator)]
    return any(DECIMAL_COMMA.fullmatch(cell) for cell in cells)


def _json(content):
    """Rows, or columns, or one object a line. NaN and Infinity stay words: a loss that diverged."""
    text = _decoded(content).strip()
    try:
        found = json.loads(text, parse_constant=str)
    except json.JSONDecodeError:
        found = [json.loads(line, parse_constant=str) for line in text.splitlines() if line.strip()]
    return _own(found)


#: What reads the bytes of a file, by its endings.
READERS = {
    ".csv .tsv .txt .dat": _text,
    ".json .jsonl .ndjson": _json,
    ".xlsx .xls .xlsb .ods": lambda content: pd.read_excel(io.BytesIO(content), engine="calamine"),
    ".feather .arrow .ipc": lambda content: pd.read_feather(io.BytesIO(content)),
    ".zip": _zip,
    ".parquet .pq": lambda content: pd.read_parquet(io.BytesIO(content)),
}
