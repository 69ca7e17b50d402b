"""The files around the package: lock, environment, Makefile, README, house rules."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import hpt
from hpt.data.source import PACKAGES
from hpt.parameterization.sixteen import markdown_table

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line[:1].isalnum()
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
    assert next(d for d in dependencies if isinstance(d, dict))["pip"] == [
        "-r requirements.lock",
        "-e .",
    ]


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
        ["make", "-C", ROOT, "env", f"PYTHON={old}", f"VENV={tmp_path}/venv"],
        capture_output=True,
        text=True,
    )
    assert done.returncode and "Python 3.11 or newer" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_readme_shows_the_table_of_the_code():
    assert markdown_table() in (ROOT / "README.md").read_text()


def test_readme_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"`make (\w+)", readme):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"\]\(((?:notebooks|hpt|docs|runs)[^)#]*)\)", readme):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"\bhpt\.(\w+)\(", readme):
        assert name in hpt.__all__, name


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
    assert (
        subprocess.run(
            [str(Path(__import__("sys").executable)), "-c", code], check=False
        ).returncode
        == 0
    )
