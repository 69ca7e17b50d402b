"""Notebooks run headless by papermill: parameters checked first, output renamed on success,
failures named by cell."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
import traitlets
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

import hpt
from hpt.errors import NotebookError, did_you_mean
from hpt.notebooks.source import (
    ADDED_TAGS,
    check_parameters,
    read_notebook,
    read_parameters,
    tags_of,
)


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
    """Starts the kernel with the interpreter that runs now, whatever kernel specs the machine
    has."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict(), env={"HPT_HEADLESS": "1"})

    @traitlets.default("transport_encryption")
    def _encrypt(self) -> str:
        return "auto" if zmq.has("curve") else "disabled"


def run_notebook(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    *,
    state: str = "",
    start_timeout: int = 300,
    echo: TextIO | None = None,
) -> NotebookResult:
    """Execute ``source`` in its own folder and write it to ``output``, which exists afterwards only
    on success.

    Parameters
    ----------
    parameters: see :func:`check_parameters`; checked before anything runs or is removed.
    state: names what the notebook reads from elsewhere, for :func:`finished`.
    start_timeout: seconds that the kernel may take to start.
    echo: where what the cells print is shown as it comes, such as ``sys.stdout``.

    Raises
    ------
    NotebookError: for bad parameters, a cell that fails, and a kernel that dies; names notebook and
        cell. What ran so far is then beside ``output`` as ``NAME.failed.ipynb``.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    given = check_parameters(source, parameters or {})
    if source == output:
        raise NotebookError(
            f"{source.name} would overwrite itself.", remedy="another output folder"
        )
    partial, failed = output.with_suffix(".partial.ipynb"), _failed(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in (partial, failed, output):
        stale.unlink(missing_ok=True)
    started = time.perf_counter()
    try:
        executed = papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=given,
            kernel_name="python3",
            language="python",
            cwd=str(source.parent),
            progress_bar=False,
            start_timeout=start_timeout,
            stdout_file=echo,
            stderr_file=echo,
            kernel_manager_class=_ThisPython,
            store_widget_state=False,
        )
        if executed.metadata.papermill.exception:  # papermill lets sys.exit(0) pass as a success
            raise NotebookError("SystemExit: the notebook stopped before its end")
        executed.metadata.papermill.update(input_path=source.name, output_path=output.name)
        seconds = time.perf_counter() - started
        executed.metadata["hpt"] = {
            "fingerprint": _fingerprint(source, given, state),
            "seconds": seconds,
        }
        nbformat.write(executed, partial)
        partial.replace(output)
    except Exception as error:
        raise _failure(source, partial, failed, error) from error
    finally:
        partial.unlink(missing_ok=True)
    return _result(source, output, executed, given)


def finished(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    state: str = "",
) -> NotebookResult | None:
    """The result of an earlier :func:`run_notebook` with the same arguments, or None where anything
    has changed.

    Anything is the notebook, its parameters, the state, hpt's own files, and the version of torch.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    if not output.exists():
        return None
    executed, given = read_notebook(output), check_parameters(source, parameters or {})
    if executed.metadata.get("hpt", {}).get("fingerprint") != _fingerprint(source, given, state):
        return None
    return _result(source, output, executed, given)


def _fingerprint(source: Path, parameters: Mapping[str, Any], state: str) -> str:
    """Hash of all that decides what a notebook shows."""
    code = sorted(
        p
        for p in Path(hpt.__file__).parent.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    )
    given = json.dumps([dict(parameters), state, version("torch")], sort_keys=True)
    content = [source.read_bytes(), given.encode()]
    return hashlib.sha256(b"\0".join(content + [p.read_bytes() for p in code])).hexdigest()


def _result(
    source: Path, output: Path, executed: nbformat.NotebookNode, given: Mapping[str, Any]
) -> NotebookResult:
    return NotebookResult(
        name=source.stem,
        source=source,
        output=output,
        seconds=executed.metadata["hpt"]["seconds"],
        cell_seconds=tuple(
            float(c.metadata.papermill.duration) for c in executed.cells if c.cell_type == "code"
        ),
        parameters=read_parameters(source) | given,
    )


def run_notebooks(
    folder: str | os.PathLike,
    out_dir: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    state: str = "",
    again: bool = True,
    keep_going: bool = False,
    echo: TextIO | None = None,
    say: Callable[[str], None] = print,
) -> list[NotebookResult]:
    """Run the notebooks ``NN_title.ipynb`` of ``folder`` in the order of their numbers.

    Parameters
    ----------
    parameters: given to each notebook; all notebooks are checked before the first one runs.
    only: names or beginnings of names, such as ``["01", "03"]``; none given means all.
    state: see :func:`run_notebook`.
    again: run also what :func:`finished` finds unchanged.
    keep_going: go on after a failure; the result then has ``ok=False`` and the reason in ``error``.
    echo: see :func:`run_notebook`.
    say: takes one line before and one after each notebook.
    """
    sources = sorted(
        path for path in Path(folder).glob("[0-9][0-9]_*.ipynb") if "." not in path.stem
    )
    names = [source.stem for source in sources]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            raise NotebookError(
                f"no notebook in {folder} starts with {wanted!r}.", did_you_mean(wanted, names)
            )
    sources = [source for source in sources if source.stem.startswith(tuple(only) or "")]
    if not sources:
        raise NotebookError(
            f"no notebook to run in {folder}.", "the folder has no file NN_title.ipynb"
        )
    for source in sources:
        check_parameters(source, parameters or {})
    results = []
    for source in sources:
        started, output = time.perf_counter(), Path(out_dir) / source.name
        if not again and (result := finished(source, output, parameters, state)):
            results.append(result)
            say(f"{source.stem}: unchanged")
            continue
        say(f"{source.stem}: running")
        try:
            result = run_notebook(source, output, parameters, state=state, echo=echo)
        except NotebookError as error:
            if not keep_going:
                raise
            result = NotebookResult(
                name=source.stem,
                source=source.resolve(),
                output=_failed(output.resolve()),
                ok=False,
                error=str(error),
                seconds=time.perf_counter() - started,
                parameters=read_parameters(source) | check_parameters(source, parameters or {}),
            )
        results.append(result)
        say(
            f"{source.stem}: done in {result.seconds:.1f} s"
            if result.ok
            else f"{source.stem}: FAILED\n{result.error}"
        )
    return results


def _failed(output: Path) -> Path:
    return output.with_suffix(".failed.ipynb")


def _failure(source: Path, partial: Path, failed: Path, error: Exception) -> NotebookError:
    """Keep what ran as ``failed`` and tell where it stopped: the last cell that was started."""
    where = "before its first cell"
    if partial.exists():
        cells = [
            cell
            for cell in read_notebook(partial).cells
            if not ADDED_TAGS.intersection(tags_of(cell))
        ]
        started = [
            i
            for i, cell in enumerate(cells)
            if cell.metadata.get("papermill", {}).get("start_time")
        ]
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
        what, cause = (
            "the kernel died",
            "the system killed it for its memory use, or native code crashed",
        )
    return NotebookError(
        f"{source.name} failed {where}: {what}",
        cause,
        f"read {failed}, mend the cell and run again" if failed.exists() else "",
    )
