"""Checks of a reader's answers: told in words whatever the answer does, and nothing is raised."""

import contextlib
import threading
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from hpt.exercises import TASKS, check, checking, hint
from hpt.exercises.checking import difference, told_of
from hpt.exercises.tasks import Task, rates_by_name

DOUBLE = Task("00.double", lambda x: 2 * x, ((1.0,), (2.0,)))


@pytest.mark.parametrize(
    "given",
    [
        (1.0, 2.0),
        [1, 2],
        np.array([1, 2]),
        np.array([[1.0], [2.0]]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        [torch.tensor(1.0, requires_grad=True), Fraction(2)],
        torch.tensor([1, 2], dtype=torch.bfloat16),
        pd.Series([1, 2]),
        iter([1, 2]),
        (x for x in (Decimal(1), np.float32(2))),
        range(1, 3),
    ],
    ids=lambda given: type(given).__name__,
)
def test_numbers_of_any_kind_count_alike(given):
    assert not difference(given, (1.0, 2.0))


@pytest.mark.parametrize(
    "given, told",
    [
        ([1.0, 4.0], "expected (1, 2)"),
        ([16.0, 32.0], "16 times as much"),
        ([1.0], "1 numbers in place of 2"),
        ("text", "no number"),
        ({"a": 1}, "no number"),
        ([1.0, None], "expected"),
        ([1j, 2.0], "no number"),
        (object(), "no number"),
        ([1.0, np.nan], "expected"),
        ([], "0 numbers"),
    ],
)
def test_what_differs_is_said(given, told):
    assert told in difference(given, (1.0, 2.0))


def test_of_a_mapping_the_key_that_differs_is_said():
    assert not difference({"a": 1.0, "b": 2}, {"a": 1, "b": 2.0})
    assert difference({"a": 1.0}, {"a": 1, "b": 2}).startswith("b: gave None")


class Hostile:
    """Raises whatever it is asked."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    __repr__ = __float__ = __iter__ = __len__ = __array__ = lambda self, *_: 1 / 0


def raising(error):
    def answer(x):
        raise error

    return answer


def endless(x):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)


@pytest.mark.parametrize(
    "answer, told",
    [
        (lambda x: 2 * x, ""),
        (lambda x: torch.tensor(2 * x), ""),
        (lambda x: [2 * x], ""),
        (lambda x: 3 * x, "1.5 times as much"),
        (lambda x: ..., "still yours"),
        (lambda x: None, "`return` is missing"),
        (lambda x: print("six", 2 * x), "It printed: six 2.0"),
        (lambda x: {1.0: 2.0}[x], "raised KeyError(2.0)"),
        (lambda: 2, "TypeError"),
        (lambda x: x / 0, "ZeroDivisionError"),
        (raising(SystemExit(0)), "SystemExit"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (lambda x: Hostile(), "✗"),
        (Hostile, "✗"),
        (endless, "a loop never end"),
        (3.0, "the function itself"),
        (None, "the function itself"),
        pytest.param(Hostile(), "the function itself", id="hostile"),
    ],
)
def test_whatever_an_answer_does_is_told(answer, told, monkeypatch, capsys):
    monkeypatch.setattr(checking, "SECONDS", 0.3)
    found = told_of(DOUBLE, answer)
    assert told in found and bool(told) == bool(found)
    assert not capsys.readouterr().out


def test_the_reader_may_interrupt():
    with pytest.raises(KeyboardInterrupt):
        told_of(DOUBLE, raising(KeyboardInterrupt()))


def test_an_answer_that_changes_its_arguments_is_compared_with_what_was_asked():
    def sorts(losses):
        losses.sort()
        return True

    assert "expected" in told_of(TASKS["11.at_edge"], sorts)
    assert TASKS["11.at_edge"].cases[0][0].tolist() == [3.0, 2.9, 3.1]


def test_outside_the_main_thread_there_is_no_limit_and_no_error():
    told = []
    thread = threading.Thread(target=lambda: told.append(told_of(DOUBLE, lambda x: 2 * x)))
    thread.start()
    thread.join()
    assert told == [""]


def test_an_unknown_name_is_told_and_the_answer_kept(capsys):
    assert check("03.embeding_lr", max) is max
    assert "03.embedding_lr" in capsys.readouterr().out
    check(["03"], max)
    hint(None)
    assert capsys.readouterr().out.count("no exercise") == 2


def test_hints_come_one_by_one(capsys):
    for level in (1, 2, 3):
        hint("03.groups", level)
        assert f"hint {level} of 3: {TASKS['03.groups'].hints[level - 1]}" in capsys.readouterr().out
    for level in (0, 4, "two", None, [1]):
        hint("03.groups", level)
        assert "1 to 3" in capsys.readouterr().out


def test_an_unsolved_stub_goes_on_with_ours_and_says_how_hard_it_is(capsys):
    def kappa(alpha, beta, gamma):
        """Exponent."""
        ...

    assert check("05.kappa", kappa)(0.5, 1.0, 2.0) == 0.5
    assert "still yours to write (★★☆ 6 min)" in capsys.readouterr().out
    assert check("05.kappa", TASKS["05.kappa"].truth) is TASKS["05.kappa"].truth
    assert "ours" in capsys.readouterr().out


def test_rates_by_name_reads_any_grouping():
    model = torch.nn.Linear(2, 1)
    assert rates_by_name([{"params": model.parameters(), "lr": 0.1}], model) == {"weight": 0.1, "bias": 0.1}
    assert rates_by_name([{"params": [model.bias], "lr": 0.1}], model) == {"bias": 0.1}


def test_what_no_optimizer_takes_is_told_in_torchs_words(capsys):
    def twice(model, lr, base_width=1):
        return [{"params": list(model.parameters()), "lr": lr}] * 2

    check("03.groups", twice)
    check("03.groups", lambda *_: 3)
    told = capsys.readouterr().out
    assert "more than one parameter group" in told and "'int' object" in told
