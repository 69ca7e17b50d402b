"""Notebooks run headless by papermill: parameters checked first, output renamed on success,
failures named by cell."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from hpt.notebooks.source import check_parameters, own_cells, read_notebook, read_parameters


@dataclass(frozen=True)
class NotebookResult:
    """One executed notebook.

    Attributes
    ----------
    name: file name without its ending, such as ``01_sp_instability``.
    source: the notebook as written.
    output: the executed notebook.
    seconds: wall time, with the start of the kernel.
    parameters: every parameter with the value that it had.
    """

    name: str
    source: Path
    output: Path
    seconds: float
    parameters: Mapping[str, Any]


class _ThisPython(AsyncKernelManager):
    """Starts the kernel with the interpreter that runs now, whatever kernel specs the machine
    has."""

    @property
    def kernel_spec(self):
        return KernelSpec(**get_kernel_dict(), env={"HPT_HEADLESS": "1"})

    @traitlets.default("transport_encryption")
    def _encrypt(self):
        return "auto" if zmq.has("curve") else "disabled"


def run_notebooks(
    folder: str | os.PathLike,
    out_dir: str | os.PathLike,
    parameters: Mapping[str, Any] | None = None,
    *,
    only: Sequence[str] = (),
    state: str = "",
    again: bool = True,
    echo: TextIO | None = None,
) -> list[NotebookResult]:
    """Run the notebooks ``NN_title.ipynb`` of ``folder`` in the order of their numbers, and print a
    line before and after each.

    Parameters
    ----------
    parameters: given to each notebook. All notebooks are checked before the first one runs.
    only: names or beginnings of names, such as ``["01", "03"]``; none given means all.
    state: see :func:`run_notebook`.
    again: run also what :func:`finished` finds unchanged.
    echo: see :func:`run_notebook`.

    Raises
    ------
    NotebookError: where nothing is to run, and as :func:`run_notebook`.
    """
    sources = _chosen(Path(folder).resolve(), only)
    for source in sources:
        check_parameters(source, parameters)
    results = []
    for source in sources:
        output = Path(out_dir).resolve() / source.name
        result = None if again else finished(source, output, parameters, state)
        if result:
            print(f"{source.stem}: unchanged")
        else:
            print(f"{source.stem}: running")
            result = run_notebook(source, output, parameters, state=state, echo=echo)
            print(f"{source.stem}: done in {result.seconds:.1f} s")
        results.append(result)
    return results


def run_notebook(source: Path, output: Path, parameters=None, *, state="", echo=None) -> NotebookResult:
    """Execute ``source`` in its own folder and write it to ``output``, which exists afterwards only
    on success.

    Parameters
    ----------
    parameters: see :func:`check_parameters`; checked before anything runs or is removed.
    state: names what the notebook reads from elsewhere, for :func:`finished`.
    echo: where what the cells print is shown as it comes, such as ``sys.stdout``.

    Raises
    ------
    NotebookError: for bad parameters, a cell that fails, and a kernel that dies; names notebook and
        cell. What ran so far is then beside ``output`` as ``NAME.failed.ipynb``.
    """
    given = check_parameters(source, parameters)
    if source == output:
        raise NotebookError(f"{source.name} would overwrite itself.", remedy="another output folder")
    # until it is done, it counts as failed
    unfinished = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in (unfinished, output):
        stale.unlink(missing_ok=True)
    try:
        executed = _execute(source, unfinished, given, echo)
        executed.metadata.papermill.update(input_path=source.name, output_path=output.name)
        executed.metadata["fingerprint"] = _fingerprint(source, given, state)
        nbformat.write(executed, unfinished)
        unfinished.replace(output)
    except Exception as error:
        raise _failure(source, unfinished, error) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return _result(source, output, executed, given)


def finished(source: Path, output: Path, parameters=None, state="") -> NotebookResult | None:
    """The result of an earlier :func:`run_notebook` with the same arguments, or None where anything
    has changed.

    Anything is the notebook, the modules beside it, its parameters, the state, hpt's own files, and
    the version of torch.
    """
    if not output.exists():
        return None
    executed = read_notebook(output)
    given = check_parameters(source, parameters)
    if executed.metadata.get("fingerprint") != _fingerprint(source, given, state):
        return None
    return _result(source, output, executed, given)


def _chosen(folder, only):
    """The notebooks of a folder whose names begin as asked."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    sources = {path.stem: path for path in found if "." not in path.stem}
    for wanted in only:
        if not any(name.startswith(wanted) for name in sources):
            raise NotebookError(
                f"no notebook in {folder} starts with {wanted!r}.", did_you_mean(wanted, sources)
            )
    if not sources:
        raise NotebookError(f"no notebook to run in {folder}.", "the folder has no file NN_title.ipynb")
    return [path for name, path in sources.items() if name.startswith(tuple(only) or "")]


def _execute(source, output, parameters, echo):
    executed = papermill.execute_notebook(
        source,
        output,
        parameters=parameters,
        kernel_name="python3",
        language="python",
        cwd=source.parent,
        progress_bar=False,
        start_timeout=300,
        stdout_file=echo,
        stderr_file=echo,
        kernel_manager_class=_ThisPython,
        store_widget_state=False,
    )
    # papermill lets sys.exit(0) pass as a success
    if executed.metadata.papermill.exception:
        raise NotebookError("SystemExit: the notebook stopped before its end")
    return executed


def _fingerprint(source, parameters, state):
    """Hash of all that decides what a notebook shows."""
    given = json.dumps([parameters, state, version("torch")], sort_keys=True)
    package = Path(hpt.__file__).parent
    beside = [*source.parent.glob("*.py"), *package.rglob("*")]
    code = sorted(path for path in beside if path.is_file() and path.suffix != ".pyc")
    content = [given.encode(), *map(Path.read_bytes, [source, *code])]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


def _result(source, output, executed, given):
    return NotebookResult(
        name=source.stem,
        source=source,
        output=output,
        seconds=executed.metadata.papermill.duration,
        parameters=read_parameters(source) | given,
    )


def _failure(source, failed, error):
    """Where a notebook stopped, and why; what ran is in ``failed``."""
    where = "before its first cell"
    remedy = ""
    if failed.exists():
        where = _last_started(failed) or where
        remedy = f"read {failed}, mend the cell and run again"
    what, cause = _reason(error)
    return NotebookError(f"{source.name} failed {where}: {what}", cause, remedy)


def _last_started(notebook):
    """Which of a notebook's own cells was started last, by number and first line; "" if none
    was."""
    cells = own_cells(read_notebook(notebook))
    for number, cell in reversed(list(enumerate(cells, start=1))):
        if cell.metadata.get("papermill", {}).get("start_time"):
            first_line = cell.source.strip().partition("\n")[0]
            return f"in cell {number} of {len(cells)} ({first_line!r})"
    return ""


def _reason(error):
    """What went wrong, and the likely cause."""
    if isinstance(error, PapermillExecutionError):
        what = f"{error.ename}: {error.evalue}"
        return textwrap.shorten(what, 1500, placeholder=" …"), ""
    if isinstance(error, NotebookError):
        return error.what, ""
    if isinstance(error, DeadKernelError):
        return "the kernel died", "the system killed it for its memory use, or native code crashed"
    return f"{type(error).__name__}: {error}", ""
