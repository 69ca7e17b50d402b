"""The notebook runner: parameters, where outputs go, and how failures end, with real kernels."""

import json
import sys

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hpt.errors import NotebookError
from hpt.notebooks.runner import finished, run_notebook, run_notebooks
from hpt.notebooks.source import check_parameters, check_source, read_parameters

HEADER = """# A title

- **Question** why?
- **Claim** so
- **Prerequisites** none
- **Time** smoke 1 s, quick 2 min, gpu 3 h
"""
PARAMETERS = """profile = "quick"  # which
smoke: bool = True
steps = 10
lr = 1e-3
widths = [32, 64]
variants = ["SP"]
limit = None
"""


def write(path, *sources, parameters=PARAMETERS):
    """A notebook of a header (cell 1), a parameters cell (cell 2) and one code cell per source; its
    path."""
    cells = [
        new_markdown_cell(HEADER),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
    ]
    nbformat.write(new_notebook(cells=cells + [new_code_cell(source) for source in sources]), path)
    return path


def printed(path):
    """What the cells of an executed notebook wrote to stdout."""
    outputs = [
        output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])
    ]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def test_parameters_are_read_without_running_the_cell(tmp_path):
    assert read_parameters(write(tmp_path / "00_a.ipynb")) == {
        "profile": "quick",
        "smoke": True,
        "steps": 10,
        "lr": 1e-3,
        "widths": [32, 64],
        "variants": ["SP"],
        "limit": None,
    }


@pytest.mark.parametrize(
    "cell",
    [
        "open('ran', 'w')",
        "a = 1 + x",
        "a, b = 1, 2",
        "a = (1, 2)",
        "a = {'b': 1}",
        "a: int",
        "a = 1; a = f()",
        "a = ",
        "a = 1e999",
    ],
)
def test_only_literals_may_stand_in_the_parameters_cell(tmp_path, cell):
    with pytest.raises(NotebookError, match=r"00_a\.ipynb"):
        read_parameters(write(tmp_path / "00_a.ipynb", parameters=cell))


@pytest.mark.parametrize(
    "name, given, value",
    [
        ("smoke", "false", False),
        ("smoke", "True", True),
        ("smoke", "0", False),
        ("smoke", False, False),
        ("steps", "300", 300),
        ("lr", "3e-4", 3e-4),
        ("lr", 1, 1.0),
        ("profile", "300", "300"),
        ("profile", "true", "true"),
        ("widths", "[32, 128]", [32, 128]),
        ("widths", "32,128", [32, 128]),
        ("widths", "32", [32]),
        ("widths", (16,), [16]),
        ("variants", "SP, SP+Embd", ["SP", "SP+Embd"]),
        ("limit", "none", None),
        ("limit", "3", 3),
        ("limit", 0.5, 0.5),
    ],
)
def test_values_take_the_type_of_the_default(tmp_path, name, given, value):
    checked = check_parameters(write(tmp_path / "00_a.ipynb"), {name: given})
    assert checked == {name: value} and type(checked[name]) is type(value)


@pytest.mark.parametrize(
    "name, given",
    [
        ("smoke", "maybe"),
        ("smoke", 1),
        ("smoke", None),
        ("steps", "ten"),
        ("steps", 3.0),
        ("steps", True),
        ("steps", "3e2"),
        ("lr", "fast"),
        ("lr", "nan"),
        ("lr", False),
        ("profile", 3),
        ("profile", None),
        ("widths", [32, "wide"]),
        ("widths", "32, wide"),
        ("widths", [1.5]),
        ("widths", {32}),
        ("limit", float("inf")),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path, name, given):
    with pytest.raises(
        NotebookError,
        match=rf"(?s)00_a\.ipynb.*{name}.*known parameters: profile = 'quick', smoke = True",
    ):
        check_parameters(write(tmp_path / "00_a.ipynb"), {name: given})


def test_an_unknown_name_is_refused_with_the_nearest_one_before_anything_runs(tmp_path):
    source, output = (
        write(tmp_path / "00_a.ipynb", "open('ran', 'w')"),
        tmp_path / "out" / "00_a.ipynb",
    )
    output.parent.mkdir()
    output.write_text("of an earlier run")
    with pytest.raises(
        NotebookError,
        match=r"(?s)00_a\.ipynb has no parameter 'step' \(given 5\).*did you mean 'steps'",
    ):
        run_notebook(source, output, {"step": 5})
    assert output.read_text() == "of an earlier run" and not (tmp_path / "ran").exists()


def test_a_run_gets_its_parameters_this_interpreter_and_its_own_folder(tmp_path, monkeypatch):
    spec = (
        tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    )  # a foreign kernel spec of the usual name
    spec.parent.mkdir(parents=True)
    spec.write_text(
        json.dumps(
            {
                "argv": ["/nonexistent", "{connection_file}"],
                "display_name": "x",
                "language": "python",
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.delenv("HPT_HEADLESS", raising=False)
    source = write(
        tmp_path / "00_a.ipynb",
        "import json, os, sys\nwhere = [sys.executable, os.getcwd(), os.environ['HPT_HEADLESS']]",
        "print(json.dumps([*where, smoke, steps, lr]))",
        "import ipywidgets\nipywidgets.IntSlider(3)",
    )
    with open(tmp_path / "shown", "w+") as shown:
        result = run_notebook(
            source, tmp_path / "out" / "00_a.ipynb", {"smoke": "false", "steps": 5}, echo=shown
        )
        shown.seek(0)
        assert shown.read() == printed(result.output)
    expected = [sys.executable, str(tmp_path.resolve()), "1", False, 5, 1e-3]
    assert json.loads(printed(result.output)) == expected
    assert (result.name, result.ok, result.error) == ("00_a", True, "")
    assert result.parameters["smoke"] is False and result.parameters["profile"] == "quick"
    assert [path.name for path in result.output.parent.iterdir()] == ["00_a.ipynb"]
    executed = nbformat.read(result.output, 4)
    assert "widgets" not in executed.metadata and str(tmp_path) not in str(executed.metadata)
    assert len(result.cell_seconds) == 5 and 0 < sum(result.cell_seconds) < result.seconds


def test_a_failed_cell_is_named_and_leaves_no_output_that_looks_done(tmp_path):
    source, output = (
        write(tmp_path / "01_b.ipynb", "x = 0", "# divide\nx / x", "y = 1"),
        tmp_path / "01_b.out.ipynb",
    )
    output.write_text("of an earlier run")
    with pytest.raises(
        NotebookError,
        match=r"01_b\.ipynb failed in cell 4 of 5 \('# divide'\): ZeroDivisionError: division",
    ):
        run_notebook(source, output, {"steps": 3})  # the cell that papermill puts in is not counted
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "01_b.ipynb",
        "01_b.out.failed.ipynb",
    ]
    assert "ZeroDivisionError" in str(nbformat.read(tmp_path / "01_b.out.failed.ipynb", 4).cells)


@pytest.mark.parametrize(
    "death", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)"]
)
def test_a_notebook_that_stops_early_is_a_failure(tmp_path, death):
    source = write(
        tmp_path / "01_b.ipynb", "import os, signal, sys\nprint('alive')", death, "y = 1"
    )
    reason = "SystemExit" if "sys" in death else "the kernel died"
    with pytest.raises(NotebookError, match=rf"01_b\.ipynb failed in cell 4 of 5 .*: {reason}"):
        run_notebook(source, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()
    assert printed(tmp_path / "out.failed.ipynb") == "alive\n"


def test_a_kernel_that_cannot_start_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no_python"))
    with pytest.raises(
        NotebookError, match=r"01_b\.ipynb failed before its first cell: FileNotFoundError"
    ):
        run_notebook(write(tmp_path / "01_b.ipynb"), tmp_path / "out.ipynb")


def test_an_interrupt_passes_and_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(source, output, **_):
        write(output)
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_notebook(write(tmp_path / "01_b.ipynb"), tmp_path / "out.ipynb")
    assert [path.name for path in tmp_path.iterdir()] == ["01_b.ipynb"]


def test_a_notebook_does_not_overwrite_itself(tmp_path):
    source = write(tmp_path / "01_b.ipynb")
    before = source.read_bytes()
    with pytest.raises(NotebookError, match="overwrite itself"):
        run_notebook(source, source)
    assert source.read_bytes() == before


def test_notebooks_run_in_order_and_on_past_a_failure_if_told(tmp_path):
    write(tmp_path / "02_second.ipynb", "print(steps)")
    write(tmp_path / "01_first.ipynb", "1 / 0")
    write(tmp_path / "01_first.failed.ipynb")
    write(tmp_path / "scratch.ipynb")
    lines = []
    first, second = run_notebooks(
        tmp_path, tmp_path / "out", {"steps": "7"}, keep_going=True, say=lines.append
    )
    assert (first.name, first.ok, first.parameters["steps"]) == ("01_first", False, 7)
    assert (
        "cell 3 of 3" in first.error
        and first.output.name == "01_first.failed.ipynb"
        and first.output.exists()
    )
    assert (second.name, second.ok, printed(second.output)) == ("02_second", True, "7\n")
    assert [line.split(":")[0] for line in lines] == ["01_first"] * 2 + ["02_second"] * 2


def test_every_notebook_is_checked_before_the_first_one_runs(tmp_path):
    write(tmp_path / "01_first.ipynb", "open('ran', 'w')")
    write(tmp_path / "02_second.ipynb", parameters="profile = 'quick'")
    with pytest.raises(NotebookError, match=r"02_second\.ipynb has no parameter 'steps'"):
        run_notebooks(tmp_path, tmp_path / "out", {"steps": 7})
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "only, message", [(["03"], "starts with '03'"), ([], "no notebook to run")]
)
def test_nothing_to_run_is_an_error(tmp_path, only, message):
    if only:
        write(tmp_path / "01_first.ipynb")
    with pytest.raises(NotebookError, match=message):
        run_notebooks(tmp_path, tmp_path / "out", only=only)


def test_a_clean_source_passes(tmp_path):
    check_source(write(tmp_path / "00_a.ipynb", "1 + 1"))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda nb: nb.cells[2].update(outputs=[new_output("stream", text="x")]),
            "cell 3 has an output",
        ),
        (
            lambda nb: nb.cells[2].update(execution_count=4),
            "cell 3 has an output or an execution count",
        ),
        (
            lambda nb: nb.cells[2].metadata.update(tags=["injected-parameters"]),
            "cell 3 was left by papermill",
        ),
        (
            lambda nb: nb.cells[2].metadata.update(tags=["parameters"]),
            "2 code cells tagged 'parameters'",
        ),
        (lambda nb: nb.cells.pop(1), "0 code cells tagged 'parameters'"),
        (lambda nb: nb.cells[1].update(source="a = f()"), "not a literal"),
        (lambda nb: nb.metadata.update(widgets={}), "metadata has 'widgets'"),
        (lambda nb: nb.cells.pop(0), "no 'Title'.*no 'Question'"),
        (
            lambda nb: nb.cells[0].update(source=HEADER.replace("# A title", "A title")),
            "no 'Title'",
        ),
        (
            lambda nb: nb.cells[0].update(source=HEADER.replace("**Claim** so", "**Claim**")),
            "no 'Claim'",
        ),
        (
            lambda nb: nb.cells[0].update(source=HEADER.replace("gpu", "GPUs")),
            "no time for profile 'gpu'",
        ),
    ],
)
def test_a_source_that_is_not_clean_is_refused(tmp_path, spoil, message):
    path = write(tmp_path / "00_a.ipynb", "1 + 1")
    notebook = nbformat.read(path, 4)
    spoil(notebook)
    nbformat.write(notebook, path)
    with pytest.raises(NotebookError, match=f"(?s)00_a.ipynb.*{message}"):
        check_source(path)


@pytest.mark.parametrize("content", [None, "", "{}", "no json"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "00_a.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NotebookError, match=r"00_a\.ipynb cannot be read as a notebook"):
        read_parameters(path)


def test_an_unchanged_notebook_is_not_run_again(tmp_path):
    """Unless the source, a parameter, or the output's record of them differs."""
    source = write(tmp_path / "00_a.ipynb", "print(steps)")
    said = []

    def run(**parameters):
        return run_notebooks(tmp_path, tmp_path / "out", parameters, again=False, say=said.append)[
            0
        ]

    first = run(steps=3)
    assert run(steps=3) == first and said[-1] == "00_a: unchanged"
    assert finished(source, tmp_path / "out" / "00_a.ipynb", {"steps": 4}) is None
    assert (
        finished(source, tmp_path / "out" / "00_a.ipynb", {"steps": 3}, state="more runs") is None
    )
    run(steps=4)
    assert printed(tmp_path / "out" / "00_a.ipynb") == "4\n"
    write(source, "print(-steps)")
    run(steps=4)
    assert printed(tmp_path / "out" / "00_a.ipynb") == "-4\n" and "unchanged" not in said[-1]
