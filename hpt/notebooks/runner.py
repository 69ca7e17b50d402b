"""Notebooks run headless by papermill, side by side: parameters checked first, output renamed on success,
failures named by cell."""

from __future__ import annotations

import concurrent.futures as futures
import hashlib
import io
import json
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

import hpt
from hpt.device import cores_here, pick_device
from hpt.errors import NotebookError, did_you_mean
from hpt.files import StrPath
from hpt.notebooks.kernels import ThisPython, preload, threads_of_each
from hpt.notebooks.source import check_parameters, own_cells, read_notebook, read_parameters
from hpt.training.memory import SHARE, available_bytes

#: Memory of an executed notebook: of this machine, and of its GPU. Estimates.
KERNEL_BYTES = {"cpu": 1.2e9, "cuda": 4e9}


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


def choose_notebooks(
    folder: StrPath, only: Sequence[str] = (), parameters: Mapping[str, Any] | None = None
) -> list[Path]:
    """The notebooks ``NN_title.ipynb`` (or ``NNb_title.ipynb``) of a folder whose names begin as asked, in
    the order of their numbers; all where nothing is asked.

    Raises
    ------
    NotebookError: where there are none, and for a parameter that one of them does not take.
    """
    sources = _chosen(Path(folder).resolve(), only)
    for source in sources:
        check_parameters(source, parameters)
    return sources


def notebooks_at_once(count: int, device: str = "auto") -> int:
    """How many notebooks are executed side by side: as many as there are cores for, and memory."""
    picked = pick_device(device)
    places = {"cpu": available_bytes(pick_device("cpu"))}
    if picked.type == "cuda":
        places["cuda"] = available_bytes(picked)
    fit = min(int(SHARE * free / KERNEL_BYTES[kind]) for kind, free in places.items())
    return max(1, min(count, cores_here(), fit))


def run_notebooks(
    sources: Sequence[Path],
    out_dir: StrPath,
    parameters: Mapping[str, Any] | None = None,
    *,
    at_once: int = 1,
    minutes: float | None = None,
    state: str = "",
    again: bool = True,
    echo: TextIO | None = None,
    then: Callable[[NotebookResult], None] = lambda result: None,
) -> list[NotebookResult]:
    """Run notebooks, and print a line before and after each.

    Parameters
    ----------
    sources, parameters: as :func:`choose_notebooks` gives and takes them.
    at_once: how many are executed side by side; they share the cores. What each prints is then shown
        in one piece, once it is done. Those with the longest text start first: they take longest, as
        far as anybody can tell.
    minutes: after which those that are not done are stopped, and missing in what is returned.
    state: see :func:`run_notebook`.
    again: run also what :func:`finished` finds unchanged.
    echo: see :func:`run_notebook`.
    then: called with each result once it is there, while others are executed.

    Raises
    ------
    NotebookError: as :func:`run_notebook`; those under way are finished before.
    """
    outputs = {source: Path(out_dir).resolve() / source.name for source in sources}
    done = {}
    for source, output in outputs.items():
        if not again and (result := finished(source, output, parameters, state)):
            print(f"{source.stem}: unchanged")
            done[source] = result
    todo = [source for source in sources if source not in done]
    if at_once > 1:
        todo.sort(key=lambda source: source.stat().st_size, reverse=True)
    ThisPython.threads = threads_of_each(at_once)
    if todo:
        preload(ThisPython.threads)

    failed = threading.Event()

    def run(source):
        if failed.is_set():
            return None
        # In one piece with its end: others print too.
        print(f"{source.stem}: running\n", end="")
        shown = io.StringIO() if echo and at_once > 1 else echo
        try:
            result = run_notebook(source, outputs[source], parameters, state=state, echo=shown)
            then(result)
        except BaseException:
            failed.set()
            raise
        finally:
            # Of this thread; nobody else closes it.
            ensure_event_loop().close()
        said = shown.getvalue() if isinstance(shown, io.StringIO) else ""
        print(f"{said}{source.stem}: done in {result.seconds:.1f} s\n", end="", flush=True)
        return result

    pool = futures.ThreadPoolExecutor(at_once)
    tasks = {pool.submit(run, source): source for source in todo}
    try:
        waited = futures.wait(tasks, minutes and 60 * minutes, futures.FIRST_EXCEPTION)
        for task in waited.done:
            if task.exception():
                pool.shutdown()
                raise task.exception()
    finally:
        _end(pool, [outputs[source] for task, source in tasks.items() if not task.done()])
    done |= {tasks[task]: task.result() for task in waited.done}
    return [done[source] for source in sources if source in done]


def _end(pool, outputs):
    """End the kernels that still run, and leave nothing of their notebooks."""
    pool.shutdown(wait=False, cancel_futures=True)
    for manager in list(ThisPython.started):
        if manager.has_kernel:
            manager.provisioner.process.kill()
    pool.shutdown()
    for output in outputs:
        _unfinished(output).unlink(missing_ok=True)


def _unfinished(output):
    return output.with_suffix(".failed.ipynb")


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
    unfinished = _unfinished(output)
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


def earlier(source: Path, output: Path) -> NotebookResult:
    """The result of an earlier :func:`run_notebook`, whatever has changed since."""
    return _result(source, output, read_notebook(output), {})


def _chosen(folder, only):
    """The notebooks of a folder whose names begin as asked."""
    found = sorted(folder.glob("[0-9][0-9]*_*.ipynb"))
    sources = {path.stem: path for path in found if "." not in path.stem}
    if not sources:
        raise NotebookError(f"no notebook to run in {folder}.", "the folder has no file NN_title.ipynb")
    for wanted in only:
        if not any(name.startswith(wanted) for name in sources):
            raise NotebookError(
                f"no notebook in {folder} starts with {wanted!r}.", did_you_mean(wanted, sources)
            )
    return [path for name, path in sources.items() if name.startswith(tuple(only) or "")]


def _execute(source, output, parameters, echo):
    executed = papermill.execute_notebook(
        source,
        output,
        parameters=parameters,
        kernel_name="python3",
        language="python",
        # Of the kernel alone: papermill's own cwd= moves this whole process, and others run beside.
        resources={"metadata": {"path": str(source.parent)}},
        progress_bar=False,
        start_timeout=300,
        # Of what a cell printed, on a machine with other things to do.
        iopub_timeout=300,
        stdout_file=echo,
        stderr_file=echo,
        kernel_manager_class=ThisPython,
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
