"""What an executed notebook shows."""

from pathlib import Path

import nbformat


def outputs_of(path: Path) -> list[nbformat.NotebookNode]:
    """The outputs of its cells, in their order."""
    return [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]


def printed(path: Path) -> str:
    """What its cells wrote to stdout."""
    return "".join(output.text for output in outputs_of(path) if output.get("name") == "stdout")
