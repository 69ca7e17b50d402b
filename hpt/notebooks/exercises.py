"""Checks of a reader's own answers in the notebooks that bring their own truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hpt.exercises.checking import told_of
from hpt.exercises.tasks import Task


def check_function(answer: Callable, truth: Callable, cases: Iterable[tuple], hint: str) -> None:
    """Compare a reader's function with the true one on each case and print the verdict.

    Parameters
    ----------
    answer: the reader's. One that returns None or ... counts as not yet written.
    truth: what it should compute.
    cases: arguments to try.
    hint: printed where they differ.
    """
    task = Task(answer.__name__, truth, tuple(cases))
    told = told_of(task, answer)
    print(f"{told}\n  hint: {hint}" if told else f"✓ {answer.__name__} is right")


def check_prediction(given: Any, came_out: Any, because: str) -> None:
    """Hold a reader's prediction against what came out.

    Parameters
    ----------
    given: the prediction; None where none is made yet.
    came_out: what the runs show.
    because: one sentence of explanation, printed in any case.
    """
    if given is None:
        verdict = "… no prediction made. What came out:"
    elif given == came_out:
        verdict = "✓ you predicted it:"
    else:
        verdict = f"✗ you predicted {given}; what came out:"
    print(f"{verdict} {came_out}. {because}")
