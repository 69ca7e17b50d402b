"""Kernels forked from one process that has imported what notebooks import: as good as ones started anew."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from notebook_outputs import outputs_of

from hpt.errors import NotebookError
from hpt.notebooks import kernels
from hpt.notebooks.runner import run_notebook, run_notebooks

forked = pytest.mark.skipif(not kernels.FORKING, reason="kernels start anew here")
RUN = """
from pathlib import Path
from hpt.notebooks.runner import run_notebook
Path("ran").open("a").write("once ")
run_notebook(Path("01_a.ipynb"), Path("out.ipynb"))
"""


@forked
def test_what_is_imported_once_asks_for_no_gpu_and_starts_no_thread():
    """A fork of a process that asked for one cannot use it; a fork of one with threads may wait for ever."""
    code = (
        "import importlib, json, sys, threading, torch\n"
        "def asked(*_): raise AssertionError('a GPU was asked for')\n"
        "torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = asked\n"
        f"for name in {kernels.PRELOADED}: importlib.import_module(name)\n"
        "print(json.dumps([threading.active_count(), 'matplotlib_inline.backend_inline' in sys.modules,\n"
        "                  [name in sys.modules for name in ('pandas', 'seaborn', 'scipy.stats')]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1, False, [True, True, True]]


def test_a_kernel_has_its_own_environment_folder_threads_and_figures(tmp_path, write):
    first, second = (
        write(
            tmp_path / f"0{i}_a.ipynb",
            "import json, os, sys, numpy, torch, matplotlib.pyplot as plt\nmark = 'mark' in globals()",
            "here = [os.getcwd(), os.environ['HPT_CORES'], torch.get_num_threads(), sys.argv[0]]",
            "print(json.dumps([*here, mark, sorted(set(sys.modules) & {'only_once'})]))",
            "sys.modules['only_once'] = sys; mark = 1; plt.plot([1, 2]);",
            f"import atexit\natexit.register(open, 'ended {i}', 'w');",
        )
        for i in range(2)
    )
    before = dict(os.environ)
    results = run_notebooks([first, second], tmp_path / "out", at_once=1)
    assert dict(os.environ) == before
    assert [path.name for path in sorted(tmp_path.glob("ended*"))] == ["ended 0", "ended 1"]
    threads = kernels.ThisPython.threads
    for result in results:
        said, *shown = outputs_of(result.output)
        folder, cores, used, name, *left_over = json.loads(said["text"])
        assert (folder, cores, used) == (str(tmp_path), str(threads), threads)
        assert name.endswith(("ipykernel_launcher", "ipykernel_launcher.py"))
        # Nothing of the notebook before.
        assert left_over == [False, []]
        assert [list(output["data"]) for output in shown] == [["image/png", "text/plain"]]


@forked
def test_kernels_end_with_the_script_that_started_them_and_do_not_run_it(tmp_path, write):
    write(
        tmp_path / "01_a.ipynb",
        "import os, time\nopen('pid.part', 'w').write(str(os.getpid()))",
        "os.rename('pid.part', 'pid'); time.sleep(600)",
    )
    (tmp_path / "run.py").write_text(RUN)
    started = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path)
    while not (tmp_path / "pid").exists():
        assert started.poll() is None
        time.sleep(0.1)
    kernel = psutil.Process(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "ran").read_text() == "once "
    server = kernel.parent()
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    _, alive = psutil.wait_procs([kernel, server], timeout=60)
    assert not alive


@forked
def test_a_kernel_that_cannot_start_is_a_failure(tmp_path, monkeypatch, write):
    def full(_):
        raise OSError("no more processes")

    monkeypatch.setattr(kernels.Kernel, "start", full)
    with pytest.raises(NotebookError, match=r"01_b\.ipynb failed before its first cell: OSError: no more"):
        run_notebook(write(tmp_path / "01_b.ipynb"), tmp_path / "out.ipynb")


def test_a_kernel_that_is_started_anew_does_the_same(tmp_path, monkeypatch, write):
    monkeypatch.setattr(kernels, "FORKING", None)
    source = write(tmp_path / "01_b.ipynb", "import os\nprint(os.environ['HPT_HEADLESS'])")
    result = run_notebook(source, tmp_path / "out.ipynb")
    assert [output["text"] for output in outputs_of(result.output)] == ["1\n"]
    monkeypatch.setattr(sys, "executable", str(Path(tmp_path) / "no_python"))
    with pytest.raises(NotebookError, match=r"01_b\.ipynb failed before its first cell: FileNotFoundError"):
        run_notebook(source, tmp_path / "out.ipynb")
