"""The files around the package: lock, environment, Makefile, README, house rules."""

import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from readability import by_wing

import hpt
from hpt.data.source import PACKAGES
from hpt.markdown import markdown_table
from hpt.parameterization.sixteen import sixteen_table

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [
    Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[:1].isalnum()
]


def test_lock_pins_every_requirement_inside_its_range():
    pins = {r.name: next(iter(r.specifier)) for r in LOCK}
    assert all(pin.operator == "==" for pin in pins.values())
    extras = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *(line for group in extras.values() for line in group)]:
        wanted = Requirement(line)
        assert pins[wanted.name].version in wanted.specifier, line


def test_lock_gives_every_python_and_platform_the_same_text():
    """One version each, so that the installed sources, and the tokens made of them, are the same
    everywhere."""
    names = [r.name for r in LOCK]
    assert len(names) == len(set(names)) and set(PACKAGES) <= set(names)
    assert all(r.marker is None for r in LOCK if r.name in PACKAGES)


def test_lock_brings_no_cuda():
    assert not [r.name for r in LOCK if r.name.startswith(("nvidia", "cuda", "triton"))]


def test_conda_environment_is_the_lock():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(d for d in dependencies if isinstance(d, str) and d.startswith("python"))
    assert python.removeprefix("python") == PROJECT["requires-python"]
    assert next(d for d in dependencies if isinstance(d, dict))["pip"] == ["-r requirements.lock", "-e ."]


def test_make_alone_prints_what_there_is():
    shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    for target in ("notebooks", "test", "env", "lab", "study", "clean"):
        assert f"make {target} " in shown


def test_make_refuses_an_old_python(tmp_path):
    """A failed installation leaves nothing that looks done."""
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", ROOT, "env", f"PYTHON={old}", f"VENV={tmp_path}/venv"], capture_output=True, text=True
    )
    assert done.returncode and "Python 3.11 or newer" in done.stdout
    assert not (tmp_path / "venv").exists()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_pages_show_the_table_of_the_code():
    assert markdown_table(sixteen_table().reset_index()) in (ROOT / "docs" / "studies.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_what_exists(page):
    text = page.read_text()
    for target in re.findall(r"`make (\w+)", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"\]\((?!\w+:|#)([^)#]*)", text):
        assert (page.parent / path).exists(), path
    for name in re.findall(r"\bhpt\.(\w+)\(", text):
        assert name in hpt.__all__, name


def test_the_readme_is_a_page_or_two():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 95
    assert "docs/play.html" in "".join(lines[:5]) and "![" in "".join(lines[:8])


def test_the_names_name_the_whole_public_surface_once():
    section = (ROOT / "docs" / "code.md").read_text().partition("## Names")[2].partition("## The code")[0]
    named = [
        name
        for cell in re.findall(r"\| ((?:`\w+`(?:, )?)+) \|", section)
        for name in re.findall(r"\w+", cell)
    ]
    assert sorted(named) == sorted(hpt.__all__)


@pytest.mark.parametrize("name", hpt.__all__)
def test_public_names_are_there_and_documented(name):
    assert name == "PARAMETERIZATIONS" or getattr(hpt, name).__doc__


def test_help_names_each_public_name_once():
    words = re.findall(r"\w+", hpt.__doc__)
    assert {name: words.count(name) for name in hpt.__all__} == dict.fromkeys(hpt.__all__, 1)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="param_groups"):
        hpt.param_group  # noqa: B018


def test_import_is_light():
    code = "import sys, hpt; sys.exit('torch' in sys.modules)"
    assert subprocess.run([str(Path(__import__("sys").executable)), "-c", code], check=False).returncode == 0


def modules():
    """Each module of a wing, as wing/module."""
    files = sorted((ROOT / "hpt").glob("*/*.py"))
    return [f"{file.parent.name}/{file.stem}" for file in files if file.stem != "__init__"]


@pytest.mark.parametrize("module", modules())
def test_every_module_has_its_tests(module):
    wing, _, name = module.partition("/")
    assert (ROOT / "tests" / wing / f"test_{name}.py").exists()


def test_every_wing_says_what_it_is():
    for file in (ROOT / "hpt").glob("*/__init__.py"):
        wing = importlib.import_module(f"hpt.{file.parent.name}")
        assert wing.__all__, wing
        for name in wing.__all__:
            assert getattr(wing, name) is not None
        for module in (path.stem for path in file.parent.glob("*.py") if path != file):
            assert f"{wing.__name__}.{module}`" in wing.__doc__, module


def test_no_module_is_called_as_a_public_function():
    assert not {module.partition("/")[2] for module in modules()} & set(hpt.__all__)


def tree():
    """Every path of the tree in docs/code.md, with what is said of it."""
    text = (ROOT / "docs" / "code.md").read_text().partition("\n## The code\n")[2]
    lines = text.partition("```\n")[2].partition("```")[0].splitlines()
    folders, found = [], []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, purpose = line.strip().partition("  ")
        path = "/".join([*folders[:depth], name.rstrip("/")])
        if name.endswith("/"):
            folders = [*folders[:depth], name.rstrip("/")]
        found.append((path, purpose.strip()))
    return found


def test_the_tree_names_every_file_once_and_says_what_for():
    named = [path for path, _ in tree()]
    assert len(named) == len(set(named))
    assert all(purpose for _, purpose in tree())
    files = [
        *(ROOT / "hpt").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "docs").glob("*.md"),
    ]
    files += [*(ROOT / "notebooks").glob("*.py"), *(ROOT / "hpt").rglob("*.toml")]
    wanted = {str(file.relative_to(ROOT)) for file in files if file.stem != "__init__"}
    assert wanted - set(named) == set()
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_contributing_names_what_exists():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"\b((?:hpt|tests|benchmarks)/[\w/]+(?:\.py)?)", page)
    for path in paths:
        if "WING" not in path:
            assert (ROOT / path).exists(), path
    for path, name in re.findall(r"`(hpt/[\w/]+\.py)`, `(\w+)`", page):
        assert re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE), name


def test_every_promise_names_tests():
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\S+\.py)(?: -k ([^`]+))?`", page)
    assert len(named) > 15
    for file, words in named:
        tests = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        chosen = words.strip('"').replace(" or ", "|")
        assert any(re.search(chosen, test) for test in tests), (file, words)


def test_code_is_short_and_its_lines_are_plain():
    wings = by_wing().values()
    lines, nodes = sum(wing[0] for wing in wings), sum(wing[1] for wing in wings)
    assert lines <= 14_600
    assert nodes < 5 * lines


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_every_benchmark_can_be_imported(file):
    importlib.import_module(file.stem)
