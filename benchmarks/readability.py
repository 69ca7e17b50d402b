"""How long and how dense the code of hpt is, a line a wing: lines of code, expression nodes a line.

A line of code holds something other than a comment or a docstring. An expression node is what Python's
own parser counts as one (a name, a call, a constant, an operation). `python benchmarks/readability.py`
"""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hpt"


def docstring_lines(tree: ast.Module) -> set[int]:
    """Numbers of the lines that docstrings stand on."""
    owners = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            found |= set(range(docstring.lineno, docstring.end_lineno + 1))
    return found


def measure(source: str) -> tuple[int, int]:
    """Lines of code and expression nodes of one module."""
    tree = ast.parse(source)
    docstrings = docstring_lines(tree)
    lines = 0
    for number, line in enumerate(source.splitlines(), start=1):
        text = line.strip()
        if text and not text.startswith("#") and number not in docstrings:
            lines += 1
    nodes = sum(isinstance(node, ast.expr) for node in ast.walk(tree))
    return lines, nodes


def by_wing(package: Path = PACKAGE) -> dict[str, tuple[int, int]]:
    """Lines of code and expression nodes of each wing, and of the files at the door."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        wing = parts[0] if len(parts) > 1 else "door"
        lines, nodes = measure(path.read_text(encoding="utf-8"))
        found[wing] = (found[wing][0] + lines, found[wing][1] + nodes)
    return dict(found)


if __name__ == "__main__":
    wings = by_wing()
    wings["all"] = (sum(lines for lines, _ in wings.values()), sum(n for _, n in wings.values()))
    print(f"{'':18} lines   nodes  nodes a line")
    for name, (lines, nodes) in wings.items():
        print(f"{name:18} {lines:5d} {nodes:7d}  {nodes / lines:.2f}")
