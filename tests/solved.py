"""The modules in solutions/, by the number of their notebook."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / "solutions"


def solution(number: str) -> ModuleType:
    """The solutions of one notebook."""
    (path,) = FOLDER.glob(f"{number}_*.py")
    spec = importlib.util.spec_from_file_location(f"solution_{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
