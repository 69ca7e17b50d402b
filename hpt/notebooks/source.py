"""Notebook sources: their header and their parameters cell.

A source starts with a markdown cell that holds a title and four list items, ``- **Question** …``,
``- **Claim** …``, ``- **Prerequisites** …`` and ``- **Time** …`` (with a time for each profile). It
has one code cell tagged ``parameters`` that assigns literals.
"""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from pydantic import ConfigDict, TypeAdapter

from hpt.errors import NotebookError, did_you_mean

HEADER_LABELS = ("Question", "Claim", "Prerequisites", "Time")
#: Tags of the cells that papermill puts in.
ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}
#: What parsing text as Python raises.
_NO_LITERAL = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
#: What checks and parses a value of each type that papermill passes on unchanged.
_TYPES = {kind: TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)) for kind in (bool, int, float, str)}


def read_notebook(path: Path) -> NotebookNode:
    """The notebook at ``path`` in nbformat 4; NotebookError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise NotebookError(
            f"{path} cannot be read as a notebook: {error}", "a wrong path, or a file that was cut short"
        ) from error


def tags_of(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that the author wrote: all but those that papermill puts in."""
    return [cell for cell in notebook.cells if not ADDED_TAGS.intersection(tags_of(cell))]


def header(notebook: NotebookNode) -> dict[str, str]:
    """Title and labelled items (markdown) of the first cell, "" where one is missing."""
    found = dict.fromkeys(("Title", *HEADER_LABELS), "")
    first = own_cells(notebook)[:1]
    text = "".join(cell.source for cell in first if cell.cell_type == "markdown")
    title = re.search(r"^# +(.+?)\s*$", text, re.MULTILINE)
    if title:
        found["Title"] = title[1]
    # an item ends where the next one starts, at an empty line, or with the cell
    item = r"^[-*] +\*\*(\w+)[.:]?\*\*[.:]?(.*?)(?=^[-*] |^\s*$|\Z)"
    for label, said in re.findall(item, text, re.MULTILINE | re.DOTALL):
        found[label] = " ".join(said.split())
    return found


def read_parameters(source: Path) -> dict[str, Any]:
    """Names and default values in the cell tagged ``parameters``, read without executing it.

    Raises
    ------
    NotebookError: if there is not exactly one such cell, or it holds more than assignments of
        literals (bool, int, float, str, None, or a list of these: what papermill passes on
        unchanged).
    """
    name = source.name
    cells = read_notebook(source).cells
    tagged = [cell for cell in cells if cell.cell_type == "code" and "parameters" in tags_of(cell)]
    if len(tagged) != 1:
        raise NotebookError(f"{name} has {len(tagged)} code cells tagged 'parameters', not one.")
    try:
        statements = ast.parse(tagged[0].source).body
    except _NO_LITERAL as error:
        raise NotebookError(f"{name}: the parameters cell is no Python: {error!r}.") from error
    return dict(_assignment(statement, name) for statement in statements)


def check_parameters(source: Path, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """``parameters`` with every value in the type that the notebook's default has.

    Text for a parameter that is no string is parsed: ``"false"`` → False, ``"300"`` → 300,
    ``"32, 64"`` → [32, 64].

    Raises
    ------
    NotebookError: for a name that the notebook lacks, and for a value that is not of the
        default's type.
    """
    name = source.name
    defaults = read_parameters(source)
    listed = ", ".join(f"{key} = {value!r}" for key, value in defaults.items())
    known = f"known parameters: {listed}"
    checked = {}
    for key, value in (parameters or {}).items():
        if key not in defaults:
            raise NotebookError(
                f"{name} has no parameter {key!r} (given {value!r}).", did_you_mean(key, defaults), known
            )
        default = defaults[key]
        try:
            checked[key] = _convert(value, default)
        except ValueError:
            raise NotebookError(
                f"{name}: parameter {key!r} takes {type(default).__name__}, given {value!r}.", remedy=known
            ) from None
    return checked


def _assignment(statement, notebook):
    """Name and value of ``name = literal``; NotebookError for anything else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=key)]) | ast.AnnAssign(target=ast.Name(id=key)):
            with suppress(*_NO_LITERAL):
                value = ast.literal_eval(statement.value)
                if _is_plain(value):
                    return key, value
    raise NotebookError(
        f"{notebook}: not a literal in the parameters cell: {ast.unparse(statement)!r}.",
        "the cell is read without running it",
        "name = a bool, an int, a float, a string, None, or a list of these",
    )


def _is_plain(value):
    """Whether papermill passes the value on unchanged: a finite scalar, None, or a list of scalars
    of one type."""
    if isinstance(value, list):
        return len(set(map(type, value))) <= 1 and all(map(_is_scalar, value))
    return value is None or _is_scalar(value)


def _is_scalar(value):
    if type(value) is float:
        return math.isfinite(value)
    return type(value) in _TYPES


def _convert(value, default):
    """``value`` in the type of ``default``: text is parsed, anything else must have that type
    (ValueError if not)."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if default is None:
        return _plain(value)
    if isinstance(default, list):
        of_items = default[0] if default else None
        return [_convert(item, of_items) for item in _items(value)]
    kind = _TYPES[type(default)]
    if isinstance(value, str):
        return kind.validate_strings(value)
    return kind.validate_python(value, strict=True)


def _items(value):
    """A list, or the text of one, as its items."""
    if isinstance(value, str):
        return [part.strip(" '\"") for part in value.strip("[] ").split(",")]
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return value


def _plain(value):
    """A value for a parameter whose default tells no type: text that reads as a literal is one."""
    if isinstance(value, str):
        if value.lower() in ("none", "null"):
            return None
        with suppress(*_NO_LITERAL):
            value = ast.literal_eval(value)
    if not _is_plain(value):
        raise ValueError
    return value
