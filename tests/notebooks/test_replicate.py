"""The main job, whole, on the smoke profile and real text."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpt.cli import main
from hpt.notebooks.pages import external_references
from hpt.notebooks.source import check_source

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_sources_are_clean(path):
    check_source(path)
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert max(map(len, "".join(cell["source"]).splitlines()), default=0) <= 100, (
                "a line too long to read"
            )


def test_the_main_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_HEADLESS", "1")
    folders = {
        "--store": tmp_path / "store",
        "--out": tmp_path / "report",
        "--source": NOTEBOOKS[0].parent,
    }
    arguments = [
        "notebooks",
        "--profile",
        "smoke",
        *(str(x) for pair in folders.items() for x in pair),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    pages = sorted((tmp_path / "report").glob("*.html"))
    assert [p.stem for p in pages] == [*(n.stem for n in NOTEBOOKS), "index", "phases"]
    assert not [reference for page in pages for reference in external_references(page.read_text())]
    index = (tmp_path / "report" / "index.html").read_text()
    for word in (
        "SP+Embd closes",
        "smoke",
        "data fingerprint",
        "log₂ η*",
        "κ",
        'href="phases.html"',
    ):
        assert word in index
    assert "SP+Embd" in (tmp_path / "report" / "phases.html").read_text()
    again = CliRunner().invoke(main, [*arguments, NOTEBOOKS[0].stem])
    assert again.exit_code == 0 and "smoke: all" in again.output
