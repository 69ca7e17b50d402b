"""The notebook runner: where outputs go, what is not run again, and how failures end, with real
kernels."""

import io
import json
import os
import signal
import sys
import time

import nbformat
import papermill
import pytest
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from notebook_outputs import printed

from hpt.device import cores_here
from hpt.errors import NotebookError
from hpt.notebooks import runner
from hpt.notebooks.runner import choose_notebooks, finished, notebooks_at_once, run_notebook, run_notebooks


def test_an_unknown_name_is_refused_with_the_nearest_one_before_anything_runs(tmp_path, write):
    source, output = (write(tmp_path / "00_a.ipynb", "open('ran', 'w')"), tmp_path / "out" / "00_a.ipynb")
    output.parent.mkdir()
    output.write_text("of an earlier run")
    with pytest.raises(
        NotebookError, match=r"(?s)00_a\.ipynb has no parameter 'step' \(given 5\).*did you mean 'steps'"
    ):
        run_notebook(source, output, {"step": 5})
    assert output.read_text() == "of an earlier run" and not (tmp_path / "ran").exists()


def test_a_run_gets_its_parameters_this_interpreter_and_its_own_folder(tmp_path, monkeypatch, write):
    spec = (
        tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    )  # a foreign kernel spec of the usual name
    spec.parent.mkdir(parents=True)
    spec.write_text(
        json.dumps({"argv": ["/nonexistent", "{connection_file}"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.delenv("HPT_HEADLESS", raising=False)
    source = write(
        tmp_path / "00_a.ipynb",
        "import json, os, sys\nwhere = [sys.executable, os.getcwd(), os.environ['HPT_HEADLESS']]",
        "print(json.dumps([*where, smoke, steps, lr]))",
        "import ipywidgets\nipywidgets.IntSlider(3)",
    )
    sent, send = [], LocalProvisioner.send_signal
    monkeypatch.setattr(LocalProvisioner, "send_signal", lambda self, n: sent.append(n) or send(self, n))
    with open(tmp_path / "shown", "w+") as shown:
        result = run_notebook(
            source, tmp_path / "out" / "00_a.ipynb", {"smoke": "false", "steps": 5}, echo=shown
        )
    # A kernel that is interrupted at its end says so on the terminal.
    assert signal.SIGINT not in sent
    with open(tmp_path / "shown") as shown:
        assert shown.read() == printed(result.output)
    expected = [sys.executable, str(tmp_path.resolve()), "1", False, 5, 1e-3]
    assert json.loads(printed(result.output)) == expected
    assert result.name == "00_a"
    assert result.parameters["smoke"] is False and result.parameters["profile"] == "quick"
    assert [path.name for path in result.output.parent.iterdir()] == ["00_a.ipynb"]
    executed = nbformat.read(result.output, 4)
    assert "widgets" not in executed.metadata and str(tmp_path) not in str(executed.metadata)
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    spent = [cell.metadata.papermill.duration for cell in cells]
    assert len(spent) == 5 and 0 < sum(spent) < result.seconds


def test_a_failed_cell_is_named_and_leaves_no_output_that_looks_done(tmp_path, write):
    source, output = (
        write(tmp_path / "01_b.ipynb", "x = 0", "# divide\nx / x", "y = 1"),
        tmp_path / "01_b.out.ipynb",
    )
    output.write_text("of an earlier run")
    with pytest.raises(
        NotebookError, match=r"01_b\.ipynb failed in cell 4 of 5 \('# divide'\): ZeroDivisionError: division"
    ):
        run_notebook(source, output, {"steps": 3})  # the cell that papermill puts in is not counted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01_b.ipynb", "01_b.out.failed.ipynb"]
    assert "ZeroDivisionError" in str(nbformat.read(tmp_path / "01_b.out.failed.ipynb", 4).cells)


@pytest.mark.parametrize("death", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"])
def test_a_notebook_that_stops_early_is_a_failure(tmp_path, death, write):
    source = write(tmp_path / "01_b.ipynb", "import os, signal, sys\nprint('alive')", death, "y = 1")
    reason = "SystemExit" if "sys" in death else "the kernel died"
    with pytest.raises(NotebookError, match=rf"01_b\.ipynb failed in cell 4 of 5 .*: {reason}"):
        run_notebook(source, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()
    assert printed(tmp_path / "out.failed.ipynb") == "alive\n"


def test_an_interrupt_passes_and_leaves_nothing(tmp_path, monkeypatch, write):
    def interrupted(source, output, **_):
        write(output)
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_notebook(write(tmp_path / "01_b.ipynb"), tmp_path / "out.ipynb")
    assert [path.name for path in tmp_path.iterdir()] == ["01_b.ipynb"]


def test_a_notebook_does_not_overwrite_itself(tmp_path, write):
    source = write(tmp_path / "01_b.ipynb")
    before = source.read_bytes()
    with pytest.raises(NotebookError, match="overwrite itself"):
        run_notebook(source, source)
    assert source.read_bytes() == before


def test_notebooks_run_in_order_until_one_fails(tmp_path, write, capsys):
    write(tmp_path / "03_third.ipynb", "print(steps)")
    write(tmp_path / "02_second.ipynb", "1 / 0")
    write(tmp_path / "01_first.ipynb", "print(steps)")
    write(tmp_path / "01_first.failed.ipynb")
    write(tmp_path / "scratch.ipynb")
    with pytest.raises(NotebookError, match=r"02_second\.ipynb failed in cell 3 of 3"):
        run_notebooks(choose_notebooks(tmp_path), tmp_path / "out", {"steps": "7"})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "01_first.ipynb",
        "02_second.failed.ipynb",
    ]
    assert printed(tmp_path / "out" / "01_first.ipynb") == "7\n"
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["01_first", "01_first", "02_second"]


def test_notebooks_run_side_by_side_and_what_each_prints_stays_whole(tmp_path, write, capsys, monkeypatch):
    """Each waits for the other, so one after another they would never end; both know their threads, and
    are in their folder though this process, which both share, never moves."""
    moves = []
    monkeypatch.setattr("os.chdir", moves.append)
    meet = """
import os, pathlib, time
pathlib.Path({0!r}).touch()
for _ in range(600):
    time.sleep(0.1 * (not pathlib.Path({1!r}).exists()))
    print({0!r})
"""
    for path, *names in (("00_a.ipynb", "a", "b"), ("01_b.ipynb", "b", "a")):
        write(tmp_path / path, meet.format(*names), "print(os.environ['HPT_CORES'])")
    shown = io.StringIO()
    done = []
    sources = choose_notebooks(tmp_path)
    results = run_notebooks(sources, tmp_path / "out", at_once=2, echo=shown, then=done.append)
    assert [result.name for result in results] == ["00_a", "01_b"]
    assert sorted(done, key=lambda result: result.name) == results
    said = capsys.readouterr().out
    cores = max(1, cores_here() // 2)
    for result, name in zip(results, "ab", strict=True):
        whole = f"{name}\n" * 600 + f"{cores}\n"
        assert whole in said and printed(result.output) == whole
    assert set(map(str, moves)) <= {os.getcwd()}


def test_out_of_time_a_notebook_is_stopped_and_leaves_nothing(tmp_path, write, monkeypatch):
    write(tmp_path / "01_short.ipynb", "print(steps)")
    write(tmp_path / "02_endless.ipynb", "import time\nwhile True:\n    time.sleep(0.1)")
    wait, short = runner.futures.wait, tmp_path / "out" / "01_short.ipynb"

    def wait_from_the_short_one_on(tasks, seconds, until):
        while not short.exists():
            time.sleep(0.05)
        return wait(tasks, seconds, until)

    monkeypatch.setattr(runner.futures, "wait", wait_from_the_short_one_on)
    results = run_notebooks(choose_notebooks(tmp_path), tmp_path / "out", at_once=2, minutes=0.05)
    assert [result.name for result in results] == ["01_short"]
    assert list((tmp_path / "out").iterdir()) == [short]


def test_as_many_at_once_as_cores_and_memory_allow(monkeypatch):
    monkeypatch.setattr(runner, "cores_here", lambda: 8)
    for free, fit in ((1e12, 8), (4e9, 2), (1e3, 1)):
        monkeypatch.setattr(runner, "available_bytes", lambda device, free=free: free)
        assert notebooks_at_once(10, "cpu") == fit
    monkeypatch.setattr(runner, "available_bytes", lambda device: 1e12)
    assert notebooks_at_once(3, "cpu") == 3


def test_every_notebook_is_checked_before_the_first_one_runs(tmp_path, write):
    write(tmp_path / "01_first.ipynb", "open('ran', 'w')")
    write(tmp_path / "02_second.ipynb", parameters="profile = 'quick'")
    with pytest.raises(NotebookError, match=r"02_second\.ipynb has no parameter 'steps'"):
        choose_notebooks(tmp_path, (), {"steps": 7})
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("only, message", [(["03"], "starts with '03'"), ([], "no notebook to run")])
def test_nothing_to_run_is_an_error(tmp_path, only, message, write):
    if only:
        write(tmp_path / "01_first.ipynb")
    with pytest.raises(NotebookError, match=message):
        choose_notebooks(tmp_path, only)


def test_an_unchanged_notebook_is_not_run_again(tmp_path, write, capsys):
    """Unless the source, a parameter, or the output's record of them differs."""
    source = write(tmp_path / "00_a.ipynb", "print(steps)")
    output = tmp_path / "out" / "00_a.ipynb"

    def run(**parameters):
        (result,) = run_notebooks([source], tmp_path / "out", parameters, again=False)
        return result, capsys.readouterr().out.splitlines()[-1]

    first, _ = run(steps=3)
    assert run(steps=3) == (first, "00_a: unchanged")
    assert first.parameters["steps"] == 3 and first.parameters["profile"] == "quick"
    assert finished(source, output, {"steps": 4}) is None
    assert finished(source, output, {"steps": 3}, state="more runs") is None
    run(steps=4)
    assert printed(output) == "4\n"
    write(source, "print(-steps)")
    _, said = run(steps=4)
    assert printed(output) == "-4\n" and "unchanged" not in said


def test_a_notebook_is_run_again_when_a_module_beside_it_changes(tmp_path, write):
    module = tmp_path / "beside.py"
    module.write_text("answer = 1")
    source = write(tmp_path / "00_a.ipynb", "from beside import answer\nprint(answer)")
    output = tmp_path / "out" / "00_a.ipynb"
    result = run_notebook(source, output)
    assert finished(source, output) == result
    module.write_text("answer = 2")
    assert finished(source, output) is None
    module.write_text("answer = 1")
    assert finished(source, output) == result
