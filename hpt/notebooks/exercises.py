"""Checks of a reader's own answers in the notebooks: they encourage, hint, and never stop a batch
run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from hpt.metrics.quantities import value_text


def check_function(answer: Callable, truth: Callable, cases: Iterable[tuple], hint: str) -> None:
    """Compare a reader's function with the true one on each case and print the verdict.

    Parameters
    ----------
    answer: the reader's. One that returns None or ... counts as not yet written.
    truth: what it should compute.
    cases: arguments to try.
    hint: printed where they differ.
    """
    for case in cases:
        mistake = _mistake(answer, truth, case)
        if mistake:
            print(f"{mistake}\n  hint: {hint}")
            return
    print(f"✓ {answer.__name__} is right")


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


def _mistake(answer, truth, case):
    """What is wrong with a reader's function on one case, or ""."""
    name = answer.__name__
    call = f"{name}({', '.join(map(value_text, case))})"
    try:
        given = answer(*case)
    # whatever a reader's code raises is part of the lesson
    except Exception as error:
        return f"✗ {call} raised {type(error).__name__}: {error}"
    if given is None or given is ...:
        return f"… {name} is still yours to write."
    expected = truth(*case)
    if _same(given, expected):
        return ""
    return f"✗ {call} gave {given!r}, expected {expected!r}"


def _same(given, expected):
    try:
        return math.isclose(given, expected, rel_tol=1e-9, abs_tol=1e-12)
    except TypeError:
        return given == expected
