"""Notebooks run headless by papermill: parameters checked first, output renamed on success, failures named by cell.

A source notebook starts with a markdown cell that holds a title and four list items, ``- **Question** …``,
``- **Claim** …``, ``- **Prerequisites** …`` and ``- **Time** …`` (with a time for each profile), and has one code
cell tagged ``parameters`` that assigns literals. :func:`check_source` holds a notebook to that.
"""

from __future__ import annotations

import ast
import math
import os
import re
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TextIO

import nbformat
import papermill
import traitlets
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from pydantic import Field, TypeAdapter

from hpt.errors import NotebookError, did_you_mean

HEADER_LABELS = ("Question", "Claim", "Prerequisites", "Time")
_ADDED_TAGS = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill puts in
_TYPES = {bool: TypeAdapter(bool), int: TypeAdapter(int), str: TypeAdapter(str),
          float: TypeAdapter(Annotated[float, Field(allow_inf_nan=False)])}


@dataclass(frozen=True)
class NotebookResult:
    """One executed notebook.

    Attributes
    ----------
    name: file name without its ending, such as ``01_sp_instability``.
    source: the notebook as written.
    output: the executed notebook; of a failed one, what it got to (``….failed.ipynb``).
    seconds: wall time, with the start of the kernel.
    cell_seconds: one duration per code cell of ``output``.
    parameters: every parameter with the value that it had.
    ok: False if a cell failed (only with ``keep_going``; otherwise a failure raises).
    error: why it failed, or "".
    """

    name: str
    source: Path
    output: Path
    seconds: float
    cell_seconds: tuple[float, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    ok: bool = True
    error: str = ""


class _ThisPython(AsyncKernelManager):
    """Starts the kernel with the interpreter that runs now, whatever kernel specs the machine has."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), env={"HPT_HEADLESS": "1"})

    @traitlets.default("transport_encryption")
    def _encrypt(self) -> str:
        return "auto" if zmq.has("curve") else "disabled"


def read_notebook(path: str | os.PathLike) -> nbformat.NotebookNode:
    """The notebook at ``path`` in nbformat 4; NotebookError if it is none."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise NotebookError(f"{path} cannot be read as a notebook: {error}",
                            "a wrong path, or a file that was cut short") from error


def header(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Title and labelled items (markdown) of the first cell, "" where one is missing."""
    own = [cell for cell in notebook.cells if not _ADDED_TAGS.intersection(_tags(cell))]
    text = own[0].source if own and own[0].cell_type == "markdown" else ""
    title = re.search(r"^# +(.+?)\s*$", text, re.MULTILINE)
    found = {"Title": title[1] if title else ""}
    for label in HEADER_LABELS:
        item = re.search(rf"^[-*] +\*\*{label}[.:]?\*\*[.:]?(.*?)(?=^[-*] |^\s*$|\Z)", text, re.MULTILINE | re.DOTALL)
        found[label] = " ".join(item[1].split()) if item else ""
    return found


def read_parameters(source: str | os.PathLike) -> dict[str, Any]:
    """Names and default values in the cell tagged ``parameters``, read without executing it.

    Raises
    ------
    NotebookError: if there is not exactly one such cell, or it holds more than assignments of literals
        (bool, int, float, str, None, or a list of these: what papermill passes on unchanged).
    """
    name, defaults = Path(source).name, {}
    tagged = [cell for cell in read_notebook(source).cells if "parameters" in _tags(cell) and cell.cell_type == "code"]
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
            raise NotebookError(f"{name}: not a literal in the parameters cell: {ast.unparse(statement)!r}.",
                                "the cell is read without running it",
                                "name = a bool, an int, a float, a string, None, or a list of these") from None
        defaults[key] = value
    return defaults


def check_parameters(source: str | os.PathLike, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters`` with every value in the type that the notebook's default has.

    Text for a parameter that is no string is parsed: ``"false"`` → False, ``"300"`` → 300, ``"32, 64"`` → [32, 64].

    Raises
    ------
    NotebookError: for a name that the notebook lacks and for a value that is not of the default's type.
    """
    defaults, name = read_parameters(source), Path(source).name
    known = "known parameters: " + (", ".join(f"{key} = {value!r}" for key, value in defaults.items()) or "none")
    checked = {}
    for key, value in parameters.items():
        if key not in defaults:
            near = did_you_mean(key, defaults)
            raise NotebookError(f"{name} has no parameter {key!r} (given {value!r}).",
                                "a misspelt name; " * near.startswith("did") + near, known)
        try:
            checked[key] = _convert(value, defaults[key])
        except ValueError:
            kind = type(defaults[key]).__name__
            raise NotebookError(f"{name}: parameter {key!r} takes {kind}, as its default {defaults[key]!r}; "
                                f"given {value!r} ({type(value).__name__}).", "", known) from None
    return checked


def run_notebook(source: str | os.PathLike, output: str | os.PathLike, parameters: Mapping[str, Any] | None = None, *,
                 start_timeout: int = 300, echo: TextIO | None = None) -> NotebookResult:
    """Execute ``source`` in its own folder and write it to ``output``, which exists afterwards only on success.

    Parameters
    ----------
    parameters: see :func:`check_parameters`; checked before anything runs or is removed.
    start_timeout: seconds that the kernel may take to start.
    echo: where what the cells print is shown as it comes, such as ``sys.stdout``.

    Raises
    ------
    NotebookError: for bad parameters, a cell that fails, and a kernel that dies; names notebook and cell.
        What ran so far is then beside ``output`` as ``NAME.failed.ipynb``.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    given = check_parameters(source, parameters or {})
    if source == output:
        raise NotebookError(f"{source.name} would overwrite itself.", remedy="another output folder")
    partial, failed = output.with_suffix(".partial.ipynb"), _failed(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in (partial, failed, output):
        stale.unlink(missing_ok=True)
    started = time.perf_counter()
    try:
        executed = papermill.execute_notebook(
            str(source), str(partial), parameters=given, kernel_name="python3", language="python",
            cwd=str(source.parent), progress_bar=False, start_timeout=start_timeout, stdout_file=echo,
            stderr_file=echo, kernel_manager_class=_ThisPython, store_widget_state=False,
        )
        if executed.metadata.papermill.exception:  # papermill lets sys.exit(0) pass as a success
            raise NotebookError("SystemExit: the notebook stopped before its end")
        executed.metadata.papermill.update(input_path=source.name, output_path=output.name)
        nbformat.write(executed, partial)
        partial.replace(output)
    except Exception as error:
        raise _failure(source, partial, failed, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return NotebookResult(
        name=source.stem, source=source, output=output, seconds=time.perf_counter() - started,
        cell_seconds=tuple(float(c.metadata.papermill.duration) for c in executed.cells if c.cell_type == "code"),
        parameters=read_parameters(source) | given,
    )


def run_notebooks(folder: str | os.PathLike, out_dir: str | os.PathLike, parameters: Mapping[str, Any] | None = None, *,
                  only: Sequence[str] = (), keep_going: bool = False, echo: TextIO | None = None,
                  say: Callable[[str], None] = print) -> list[NotebookResult]:
    """Run the notebooks ``NN_title.ipynb`` of ``folder`` in the order of their numbers.

    Parameters
    ----------
    parameters: given to each notebook; all notebooks are checked before the first one runs.
    only: names or beginnings of names, such as ``["01", "03"]``; none given means all.
    keep_going: go on after a failure; the result then has ``ok=False`` and the reason in ``error``.
    echo: see :func:`run_notebook`.
    say: takes one line before and one after each notebook.
    """
    sources = sorted(path for path in Path(folder).glob("[0-9][0-9]_*.ipynb") if "." not in path.stem)
    names = [source.stem for source in sources]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            raise NotebookError(f"no notebook in {folder} starts with {wanted!r}.", did_you_mean(wanted, names))
    sources = [source for source in sources if source.stem.startswith(tuple(only) or "")]
    if not sources:
        raise NotebookError(f"no notebook to run in {folder}.", "the folder has no file NN_title.ipynb")
    for source in sources:
        check_parameters(source, parameters or {})
    results = []
    for source in sources:
        say(f"{source.stem}: running")
        started, output = time.perf_counter(), Path(out_dir) / source.name
        try:
            result = run_notebook(source, output, parameters, echo=echo)
        except NotebookError as error:
            if not keep_going:
                raise
            result = NotebookResult(
                name=source.stem, source=source.resolve(), output=_failed(output.resolve()), ok=False, error=str(error),
                seconds=time.perf_counter() - started,
                parameters=read_parameters(source) | check_parameters(source, parameters or {}),
            )
        results.append(result)
        say(f"{source.stem}: done in {result.seconds:.1f} s" if result.ok else f"{source.stem}: FAILED\n{result.error}")
    return results


def check_source(source: str | os.PathLike, profiles: Iterable[str] = ("smoke", "quick", "gpu")) -> None:
    """Hold a notebook to what a source in git must be: no outputs, one cell of literals, a complete header.

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
        if _ADDED_TAGS.intersection(_tags(cell)) or "papermill" in cell.metadata:
            problems.append(f"cell {number} was left by papermill")
    problems += [f"its metadata has {key!r}" for key in ("widgets", "papermill") if key in notebook.metadata]
    found = header(notebook)
    problems += [f"its first cell has no {label!r}" for label in ("Title", *HEADER_LABELS) if not found[label]]
    problems += [f"'Time' names no time for profile {profile!r}" for profile in profiles
                 if not re.search(rf"\b{profile}\b", found["Time"])]
    if problems:
        raise NotebookError(f"{Path(source).name}: " + "; ".join(problems) + ".",
                            remedy="clear all outputs; head it with '# Title' and '- **Question** …', "
                                   "'- **Claim** …', '- **Prerequisites** …', '- **Time** smoke …, quick …, gpu …'")


def _failed(output: Path) -> Path:
    return output.with_suffix(".failed.ipynb")


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    """Name and value of ``name = literal``; ValueError or TypeError for anything else."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=key)]) | ast.AnnAssign(target=ast.Name(id=key), value=ast.expr()):
            value = ast.literal_eval(statement.value)
            if _is_plain(value):
                return key, value
    raise ValueError


def _is_plain(value: Any) -> bool:
    """Whether papermill passes the value on unchanged: a finite scalar, None, or a list of scalars of one type."""
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        return len(kinds) <= 1 and kinds <= set(_TYPES) and all(map(_is_plain, value))
    return value is None or (type(value) in _TYPES and (type(value) is not float or math.isfinite(value)))


def _convert(value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``: text is parsed, anything else must have that type (ValueError if not)."""
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
        return kind.validate_strings(value) if isinstance(value, str) else kind.validate_python(value, strict=True)
    if isinstance(value, str):
        try:
            value = None if value.lower() in ("none", "null") else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if not _is_plain(value):
        raise ValueError
    return value


def _failure(source: Path, partial: Path, failed: Path, error: Exception) -> NotebookError:
    """Keep what ran as ``failed`` and tell where it stopped: the last cell that was started."""
    where = "before its first cell"
    if partial.exists():
        cells = [cell for cell in read_notebook(partial).cells if not _ADDED_TAGS.intersection(_tags(cell))]
        started = [i for i, cell in enumerate(cells) if cell.metadata.get("papermill", {}).get("start_time")]
        if started:
            lines = cells[started[-1]].source.strip().splitlines() or [""]
            where = f"in cell {started[-1] + 1} of {len(cells)} ({lines[0].strip()!r})"
        partial.replace(failed)
    cause, what = "", f"{type(error).__name__}: {error}"
    if isinstance(error, PapermillExecutionError):
        what = textwrap.shorten(f"{error.ename}: {error.evalue}", 1500, placeholder=" …")
    elif isinstance(error, NotebookError):
        what = error.what
    elif isinstance(error, DeadKernelError):
        what, cause = "the kernel died", "the system killed it for its memory use, or native code crashed"
    return NotebookError(f"{source.name} failed {where}: {what}", cause,
                         f"read {failed}, mend the cell and run again" if failed.exists() else "")
