"""Notebook sources: their header, their parameters cell, and what keeps them clean in git.

A source notebook starts with a markdown cell that holds a title and four list items, ``-
**Question** …``, ``- **Claim** …``, ``- **Prerequisites** …`` and ``- **Time** …`` (with a time for
each profile), and has one code cell tagged ``parameters`` that assigns literals.
:func:`check_source` holds a notebook to that.
"""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import nbformat
from pydantic import Field, TypeAdapter

from hpt.errors import NotebookError, did_you_mean

HEADER_LABELS = ("Question", "Claim", "Prerequisites", "Time")
ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill puts in
_TYPES = {
    bool: TypeAdapter(bool),
    int: TypeAdapter(int),
    str: TypeAdapter(str),
    float: TypeAdapter(Annotated[float, Field(allow_inf_nan=False)]),
}


def read_notebook(path: str | os.PathLike) -> nbformat.NotebookNode:
    """The notebook at ``path`` in nbformat 4; NotebookError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise NotebookError(
            f"{path} cannot be read as a notebook: {error}",
            "a wrong path, or a file that was cut short",
        ) from error


def header(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Title and labelled items (markdown) of the first cell, "" where one is missing."""
    own = [cell for cell in notebook.cells if not ADDED_TAGS.intersection(tags_of(cell))]
    text = own[0].source if own and own[0].cell_type == "markdown" else ""
    title = re.search(r"^# +(.+?)\s*$", text, re.MULTILINE)
    found = {"Title": title[1] if title else ""}
    for label in HEADER_LABELS:
        item = re.search(
            rf"^[-*] +\*\*{label}[.:]?\*\*[.:]?(.*?)(?=^[-*] |^\s*$|\Z)",
            text,
            re.MULTILINE | re.DOTALL,
        )
        found[label] = " ".join(item[1].split()) if item else ""
    return found


def read_parameters(source: str | os.PathLike) -> dict[str, Any]:
    """Names and default values in the cell tagged ``parameters``, read without executing it.

    Raises
    ------
    NotebookError: if there is not exactly one such cell, or it holds more than assignments of
        literals (bool, int, float, str, None, or a list of these: what papermill passes on
            unchanged).
    """
    name, defaults = Path(source).name, {}
    cells = read_notebook(source).cells
    tagged = [cell for cell in cells if "parameters" in tags_of(cell) and cell.cell_type == "code"]
    if len(tagged) != 1:
        raise NotebookError(f"{name} has {len(tagged)} code cells tagged 'parameters', not one.")
    try:
        statements = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise NotebookError(f"{name}: the parameters cell is no Python: {error}.") from error
    for statement in statements:
        try:
            key, value = _assignment(statement)
        except (TypeError, ValueError):
            raise NotebookError(
                f"{name}: not a literal in the parameters cell: {ast.unparse(statement)!r}.",
                "the cell is read without running it",
                "name = a bool, an int, a float, a string, None, or a list of these",
            ) from None
        defaults[key] = value
    return defaults


def check_parameters(source: str | os.PathLike, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters`` with every value in the type that the notebook's default has.

    Text for a parameter that is no string is parsed: ``"false"`` → False, ``"300"`` → 300, ``"32,
        64"`` → [32, 64].

    Raises
    ------
    NotebookError: for a name that the notebook lacks and for a value that is not of the default's
        type.
    """
    defaults, name = read_parameters(source), Path(source).name
    known = "known parameters: " + (
        ", ".join(f"{key} = {value!r}" for key, value in defaults.items()) or "none"
    )
    checked = {}
    for key, value in parameters.items():
        if key not in defaults:
            near = did_you_mean(key, defaults)
            raise NotebookError(
                f"{name} has no parameter {key!r} (given {value!r}).",
                "a misspelt name; " * near.startswith("did") + near,
                known,
            )
        try:
            checked[key] = _convert(value, defaults[key])
        except ValueError:
            kind = type(defaults[key]).__name__
            raise NotebookError(
                f"{name}: parameter {key!r} takes {kind}, as its default {defaults[key]!r}; "
                f"given {value!r} ({type(value).__name__}).",
                "",
                known,
            ) from None
    return checked


def check_source(
    source: str | os.PathLike, profiles: Iterable[str] = ("smoke", "quick", "gpu")
) -> None:
    """Hold a notebook to what a source in git must be: no outputs, one cell of literals, a complete
    header.

    Raises
    ------
    NotebookError: lists everything that is wrong.
    """
    notebook, problems = read_notebook(source), []
    try:
        read_parameters(source)
    except NotebookError as error:
        problems.append(error.what)
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            problems.append(f"cell {number} has an output or an execution count")
        if ADDED_TAGS.intersection(tags_of(cell)) or "papermill" in cell.metadata:
            problems.append(f"cell {number} was left by papermill")
    problems += [
        f"its metadata has {key!r}" for key in ("widgets", "papermill") if key in notebook.metadata
    ]
    found = header(notebook)
    problems += [
        f"its first cell has no {label!r}"
        for label in ("Title", *HEADER_LABELS)
        if not found[label]
    ]
    problems += [
        f"'Time' names no time for profile {profile!r}"
        for profile in profiles
        if not re.search(rf"\b{profile}\b", found["Time"])
    ]
    if problems:
        raise NotebookError(
            f"{Path(source).name}: " + "; ".join(problems) + ".",
            remedy="clear all outputs; head it with '# Title' and '- **Question** …', "
            "'- **Claim** …', '- **Prerequisites** …', '- **Time** smoke …, quick …, gpu …'",
        )


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    """Name and value of ``name = literal``; ValueError or TypeError for anything else."""
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=key)])
            | ast.AnnAssign(target=ast.Name(id=key), value=ast.expr())
        ):
            value = ast.literal_eval(statement.value)
            if _is_plain(value):
                return key, value
    raise ValueError


def _is_plain(value: Any) -> bool:
    """Whether papermill passes the value on unchanged: a finite scalar, None, or a list of scalars
    of one type."""
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        return len(kinds) <= 1 and kinds <= set(_TYPES) and all(map(_is_plain, value))
    return value is None or (
        type(value) in _TYPES and (type(value) is not float or math.isfinite(value))
    )


def _convert(value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``: text is parsed, anything else must have that type
    (ValueError if not)."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(default, list):
        if isinstance(value, str):
            value = [part.strip(" '\"") for part in value.strip("[] ").split(",")]
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return [_convert(item, default[0] if default else None) for item in value]
    if default is not None:
        kind = _TYPES[type(default)]
        return (
            kind.validate_strings(value)
            if isinstance(value, str)
            else kind.validate_python(value, strict=True)
        )
    if isinstance(value, str):
        try:
            value = None if value.lower() in ("none", "null") else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if not _is_plain(value):
        raise ValueError
    return value
