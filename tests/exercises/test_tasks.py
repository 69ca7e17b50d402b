"""Each exercise has its answer in solutions/, which is right, and mistakes, each of which is caught."""

from pathlib import Path

import numpy as np
import pytest
from solved import solution

from hpt.exercises import TASKS, check
from hpt.exercises.checking import told_of

#: Notebooks whose exercises are these.
DONE = ["00", "01", "02", "03", "04", "05", "05b", "06", "07", "08", "09", "10", "11", "12", "13", "14"]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

SOLUTIONS = {number: solution(number) for number in sorted({name.partition(".")[0] for name in TASKS})}


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


@pytest.mark.parametrize("name", [name for name in TASKS if name != "03.groups"])
def test_what_is_said_of_a_mistake_is_said_of_one_that_is_made(name):
    number, _, function = name.partition(".")
    with np.errstate(all="ignore"):
        told = [told_of(TASKS[name], mistake) for mistake in SOLUTIONS[number].MISTAKES[function]]
    said = [what for _, what in TASKS[name].mistakes]
    assert len(said) >= 2 and all(any(text.endswith(f". {what}") for text in told) for what in said)


def test_no_solution_is_of_nothing():
    for number, module in SOLUTIONS.items():
        for function in module.MISTAKES:
            assert f"{number}.{function}" in TASKS


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_an_exercise_has_three_hints_stars_and_minutes(task):
    assert len(set(task.hints)) == 3 and task.stars in (1, 2, 3) and task.minutes > 0
    assert str(task).count("★") == task.stars
    assert len(task.cases) >= 1 and told_of(task, task.truth).startswith("… that is ours")


def test_each_exercise_is_in_its_notebook_with_stars_and_minutes():
    for name, task in TASKS.items():
        number, _, function = name.partition(".")
        (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
        text = path.read_text(encoding="utf-8")
        assert f"**Exercise {name}** {task}" in text, name
        assert f'{function} = check(\\"{name}\\", {function})' in text, name


@pytest.mark.parametrize("number", DONE)
def test_a_notebook_has_exercises_a_bet_and_an_open_question(number):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    text = path.read_text(encoding="utf-8")
    assert 1 <= text.count("**Exercise") <= 3
    assert "bets.place(" in text and "bets.reveal(" in text
    assert text.count("**Open question.**") == 1
