"""Each exercise has its answer in solutions/, which is right, and mistakes, each of which is caught."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hpt.exercises import TASKS, check
from hpt.exercises.checking import told_of

FOLDER = Path(__file__).parents[2] / "solutions"


def solutions(number):
    """The module of solutions of a notebook."""
    (path,) = FOLDER.glob(f"{number}_*.py")
    spec = importlib.util.spec_from_file_location(f"solutions_{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOLUTIONS = {number: solutions(number) for number in sorted({name[:2] for name in TASKS})}


@pytest.mark.parametrize("name", TASKS)
def test_the_solution_is_right_and_the_notebook_goes_on_with_it(name, capsys):
    number, _, function = name.partition(".")
    answer = getattr(SOLUTIONS[number], function)
    assert check(name, answer) is answer
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize("name", TASKS)
def test_each_mistake_is_caught_and_the_notebook_goes_on_with_ours(name, capsys):
    number, _, function = name.partition(".")
    mistakes = SOLUTIONS[number].MISTAKES[function]
    assert len(mistakes) >= 4
    for mistake in mistakes:
        with np.errstate(all="ignore"):
            assert check(name, mistake) is TASKS[name].truth
        assert capsys.readouterr().out.startswith(("✗", "…"))


def test_no_solution_is_of_nothing():
    for number, module in SOLUTIONS.items():
        for function in module.MISTAKES:
            assert f"{number}.{function}" in TASKS


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_an_exercise_has_three_hints_stars_and_minutes(task):
    assert len(set(task.hints)) == 3 and task.stars in (1, 2, 3) and task.minutes > 0
    assert str(task).count("★") == task.stars
    assert len(task.cases) >= 1 and told_of(task, task.truth).startswith("… that is ours")
