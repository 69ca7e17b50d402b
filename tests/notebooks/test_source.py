"""Sources: the parameters cell, and what a notebook in git must be."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

import hpt
from hpt.errors import NotebookError
from hpt.notebooks.source import (
    ADDED_TAGS,
    HEADER_LABELS,
    check_parameters,
    header,
    read_notebook,
    read_parameters,
    tags_of,
)

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PROFILES = ("smoke", "quick", "gpu")
#: A wing is a package, a door module is not: `from hpt.WING import name`, `from hpt.MODULE import name`.
WINGS_AND_DOORS = {module.name for module in pkgutil.iter_modules(hpt.__path__)}


def problems_of(path):
    """Everything that is wrong with a source, of which git shall have no outputs, one cell of
    literals and a complete header."""
    notebook = read_notebook(path)
    problems = []
    try:
        read_parameters(path)
    except NotebookError as error:
        problems.append(error.what)
    for number, cell in enumerate(notebook.cells, 1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            problems.append(f"cell {number} has an output or an execution count")
        if ADDED_TAGS.intersection(tags_of(cell)) or "papermill" in cell.metadata:
            problems.append(f"cell {number} was left by papermill")
    for key in {"widgets", "papermill"}.intersection(notebook.metadata):
        problems.append(f"its metadata has {key!r}")
    return problems + problems_of_header(header(notebook))


def problems_of_header(found):
    problems = []
    for label in ("Title", *HEADER_LABELS):
        if not found[label]:
            problems.append(f"its first cell has no {label!r}")
    for profile in PROFILES:
        if not re.search(rf"\b{profile}\b", found["Time"]):
            problems.append(f"'Time' names no time for profile {profile!r}")
    return problems


def imports_of(source):
    """(module, name) of every import of hpt in a piece of code, and of every attribute of hpt."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.startswith("hpt"))
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "hpt":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "hpt":
            yield "hpt", node.attr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_sources_are_clean(path):
    assert not problems_of(path)
    for cell in read_notebook(path).cells:
        if cell.cell_type == "code":
            longest = max(map(len, cell.source.splitlines()), default=0)
            assert longest <= 100, "a line too long to read"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_import_only_what_hpt_and_its_wings_give(path):
    """`import hpt`, a wing or a door module, never a wing's inside; and the names are there."""
    code = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    used = {pair for source in code for pair in imports_of(source)}
    assert ("hpt", "") in used
    for module, name in used:
        _, *inside = module.split(".")
        assert len(inside) <= 1 and WINGS_AND_DOORS.issuperset(inside), module
        if name and not (module == "hpt" and name in WINGS_AND_DOORS):
            given = importlib.import_module(module)
            public = given.__all__ if hasattr(given, "__path__") else vars(given)
            assert name in public, (module, name)


@pytest.mark.parametrize(
    "source, found",
    [
        ("import numpy as np\nnp.load", set()),
        ("import hpt\nhpt.train(hpt.x.y)", {("hpt", ""), ("hpt", "train"), ("hpt", "x")}),
        ("if a:\n    import hpt.data.source", {("hpt.data.source", "")}),
        ("from hpt.plots import STYLE, b as c", {("hpt.plots", "STYLE"), ("hpt.plots", "b")}),
    ],
)
def test_imports_are_found(source, found):
    assert set(imports_of(source)) == found


def test_parameters_are_read_without_running_the_cell(tmp_path, write):
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
def test_only_literals_may_stand_in_the_parameters_cell(tmp_path, cell, write):
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
def test_values_take_the_type_of_the_default(tmp_path, name, given, value, write):
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
def test_a_value_of_another_type_is_refused(tmp_path, name, given, write):
    with pytest.raises(
        NotebookError, match=rf"(?s)00_a\.ipynb.*{name}.*known parameters: profile = 'quick', smoke = True"
    ):
        check_parameters(write(tmp_path / "00_a.ipynb"), {name: given})


@pytest.mark.parametrize("content", [None, "", "{}", "no json"])
def test_a_file_that_is_no_notebook_is_named(tmp_path, content):
    path = tmp_path / "00_a.ipynb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NotebookError, match=r"00_a\.ipynb cannot be read as a notebook"):
        read_parameters(path)


def test_a_clean_source_passes(tmp_path, write):
    assert not problems_of(write(tmp_path / "00_a.ipynb", "1 + 1"))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda nb: nb.cells[2].update(outputs=[new_output("stream", text="x")]), "cell 3 has an output"),
        (lambda nb: nb.cells[2].update(execution_count=4), "cell 3 has an output or an execution count"),
        (
            lambda nb: nb.cells[2].metadata.update(tags=["injected-parameters"]),
            "cell 3 was left by papermill",
        ),
        (lambda nb: nb.cells[2].metadata.update(tags=["parameters"]), "2 code cells tagged 'parameters'"),
        (lambda nb: nb.cells.pop(1), "0 code cells tagged 'parameters'"),
        (lambda nb: nb.cells[1].update(source="a = f()"), "not a literal"),
        (lambda nb: nb.metadata.update(widgets={}), "metadata has 'widgets'"),
        (lambda nb: nb.cells.pop(0), "no 'Title'.*no 'Question'"),
        (
            lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("# A title", "A title")),
            "no 'Title'",
        ),
        (
            lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("**Claim** so", "**Claim**")),
            "no 'Claim'",
        ),
        (
            lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("gpu", "GPUs")),
            "no time for profile 'gpu'",
        ),
    ],
)
def test_a_source_that_is_not_clean_is_refused(tmp_path, spoil, message, write):
    path = write(tmp_path / "00_a.ipynb", "1 + 1")
    notebook = nbformat.read(path, 4)
    spoil(notebook)
    nbformat.write(notebook, path)
    assert re.search(message, "; ".join(problems_of(path)))
