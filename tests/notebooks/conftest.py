"""Small notebooks that the tests of this wing write."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

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


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes a notebook of a header (cell 1), a parameters cell (cell 2) and one code cell per
    source; returns its path."""

    def write(path: Path, *sources: str, parameters: str = PARAMETERS) -> Path:
        cells = [
            new_markdown_cell(HEADER),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            *map(new_code_cell, sources),
        ]
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write
