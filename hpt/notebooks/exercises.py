"""Checks of a reader's own answers in the notebooks: they encourage, hint, and never stop a batch
run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any


def check_function(answer: Callable, truth: Callable, cases: Iterable[tuple], hint: str) -> None:
    """Compare a reader's function with the true one on each case and print the verdict.

    Parameters
    ----------
    answer: the reader's; one that returns None or ... counts as not yet written.
    truth: what it should compute.
    cases: arguments to try.
    hint: printed where they differ.
    """
    for case in cases:
        call = f"{answer.__name__}({', '.join(f'{x:g}' if isinstance(x, float) else repr(x) for x in case)})"
        try:
            given = answer(*case)
        except Exception as error:  # whatever a reader's code raises is part of the lesson
            print(f"✗ {call} raised {type(error).__name__}: {error}\n  hint: {hint}")
            return
        if given is None or given is ...:
            print(f"… {answer.__name__} is still yours to write. hint: {hint}")
            return
        expected = truth(*case)
        if not _same(given, expected):
            print(f"✗ {call} gave {given!r}, expected {expected!r}\n  hint: {hint}")
            return
    print(f"✓ {answer.__name__} is right")


def check_prediction(given: Any, came_out: Any, because: str) -> None:
    """Hold a reader's prediction against what came out.

    Parameters
    ----------
    given: the prediction; None is not made yet.
    came_out: what the runs show.
    because: one sentence of explanation, printed in any case.
    """
    if given is None:
        print(f"… no prediction made. What came out: {came_out}. {because}")
    elif given == came_out:
        print(f"✓ you predicted it: {came_out}. {because}")
    else:
        print(f"✗ you predicted {given}; what came out: {came_out}. {because}")


def _same(given: Any, expected: Any) -> bool:
    try:
        return math.isclose(given, expected, rel_tol=1e-9, abs_tol=1e-12)
    except TypeError:
        return given == expected
