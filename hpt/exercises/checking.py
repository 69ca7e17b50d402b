"""A reader's answer held against ours: it is told what is wrong, and nothing is raised."""

from __future__ import annotations

import contextlib
import copy
import io
import reprlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from hpt.errors import did_you_mean
from hpt.exercises.tasks import TASKS, Task

#: How long a reader's function may take for all cases.
SECONDS = 10.0
#: How many items of an iterator are read.
MOST_ITEMS = 10_000


class TooLong(BaseException):
    """Raised inside a reader's function; no Exception, so that theirs does not catch it."""


def check(name: str, answer: Callable) -> Callable:
    """Say whether a reader's function is right and, where it is not, what is wrong.

    Parameters
    ----------
    name: of the exercise, such as "03.embedding_lr".
    answer: the function. Numbers of any kind, lists, arrays and tensors count alike.

    Returns
    -------
    The function for the notebook to go on with: the reader's where it is right, else ours.
    """
    task = _find(name)
    if task is None:
        return answer
    told = told_of(task, answer)
    if not told:
        print(f"✓ {name} is right: the notebook goes on with yours.")
        return answer
    print(told)
    print(f"  Until it is right, the notebook goes on with ours. Stuck? hpt.exercises.hint({name!r}, 1)")
    return task.truth


def hint(name: str, level: int = 1) -> None:
    """Print one of the three hints of an exercise, each saying more than the one before."""
    task = _find(name)
    if task is None:
        return
    if level in (1, 2, 3):
        print(f"hint {level} of 3: {task.hints[level - 1]}")
    else:
        print(f"{name} has hints 1 to 3; after them, solutions/ has the answer, explained.")


def told_of(task: Task, answer: Any) -> str:
    """What is wrong with a reader's function; "" where nothing is."""
    if not callable(answer):
        return f"✗ {task.name}: give the function itself, not {_text(answer)}."
    if answer is task.truth:
        return "… that is ours: run the cell that defines yours once more."
    printed = io.StringIO()
    try:
        with _time_limit(SECONDS), contextlib.redirect_stdout(printed):
            told = _mistake(task, answer)
    except KeyboardInterrupt:
        raise
    except TooLong:
        told = f"✗ it was not done after {SECONDS:g} s: does a loop never end?"
    # Whatever a reader's code raises is part of the lesson.
    except BaseException as error:
        told = f"✗ {type(error).__name__}: {error}"
    if told and printed.getvalue():
        told += f"\n  It printed: {printed.getvalue()[:200]}"
    return told


def difference(given: Any, expected: Any) -> str:
    """How an answer differs from what was expected; "" where it does not."""
    if isinstance(expected, Mapping):
        for key, value in expected.items():
            told = difference(given.get(key), value)
            if told:
                return f"{key}: {told}"
        return ""
    told = f"gave {_text(given)}, expected {_text(expected)}"
    expected_N = _numbers(expected)
    try:
        given_N = _numbers(given)
    except (TypeError, ValueError):
        return f"{told}, and that is no number"
    if given_N.size != expected_N.size:
        return f"{told}: {given_N.size} numbers in place of {expected_N.size}"
    if np.allclose(given_N, expected_N, rtol=1e-6, atol=1e-12, equal_nan=True):
        return ""
    with np.errstate(all="ignore"):
        ratio_N = given_N / expected_N
        if np.ptp(ratio_N) < 1e-6:
            told += f": {ratio_N[0]:.4g} times as much"
    return told


def _find(name):
    """The exercise; None, told, where there is none."""
    task = TASKS.get(str(name))
    if task is None:
        print(f"✗ no exercise is named {name!r}: {did_you_mean(str(name), TASKS)}")
    return task


def _mistake(task, answer):
    """Of the first case that goes wrong, what did."""
    for every in task.cases:
        # A reader's function may change its arguments.
        case = copy.deepcopy(every)
        where = f"✗ {task.name}{_text(tuple(every))}"
        expected = task.read(task.truth(*case), *case)
        try:
            given = answer(*case)
        except Exception as error:
            return f"{where} raised {error!r}"
        if given is None or given is ...:
            return f"… {task.name} is still yours to write ({task}), or a `return` is missing."
        told = difference(task.read(given, *case), expected)
        if told:
            return f"{where} {told}. {dict(task.mistakes).get(_text(given), '')}".rstrip()
    return ""


def _numbers(value):
    """All numbers of an answer, as an array of floats; TypeError or ValueError where it has others."""
    if isinstance(value, str | bytes | Mapping):
        raise TypeError
    if isinstance(value, Iterator):
        value = list(islice(value, MOST_ITEMS))
    if isinstance(value, list | tuple):
        parts = [_numbers(item) for item in value]
        return np.concatenate(parts or [[]])
    if hasattr(value, "detach"):
        value = value.detach().cpu().double()
    return np.asarray(value, float).ravel()


def _text(value):
    """A value in short, whatever its own text does."""
    short = reprlib.Repr()
    short.maxother = 60
    short.repr_float = short.repr_float64 = lambda number, _: f"{number:.7g}"
    with np.printoptions(legacy="1.25"):  # a number without the name of its kind
        return short.repr(value)


@contextlib.contextmanager
def _time_limit(seconds):
    """Raise TooLong inside after so many seconds; only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
