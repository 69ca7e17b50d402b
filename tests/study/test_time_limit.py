"""A time limit: what ends in time, and what is started at all."""

import math
from types import SimpleNamespace

import pytest

from hpt.errors import ConfigError
from hpt.study import time_limit
from hpt.study.time_limit import TimeLimit


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time_limit, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def cost(seconds, workers=1):
    return SimpleNamespace(workers=workers, calibration=SimpleNamespace(run_seconds=seconds.get))


def test_without_a_limit_all_runs_start():
    assert TimeLimit(None).runs_in_time(["a", "b"], None) == ["a", "b"]


def test_what_would_end_too_late_is_not_started(clock):
    runs = cost({"long": 90.0, "short": 5.0, "shorter": 4.0}, workers=2)
    assert TimeLimit(1).runs_in_time(["long", "short", "shorter"], runs) == ["short", "shorter"]
    limit = TimeLimit(1)
    clock.seconds = 59
    assert limit.runs_in_time(["shorter"], runs) == []


def test_a_quarter_of_the_time_is_spent_before_the_pace_is_looked_at(clock):
    runs = [f"run {i}" for i in range(60)]
    seconds = cost(dict.fromkeys(runs, 1.0))
    limit = TimeLimit(1)
    assert limit.runs_in_time(runs, seconds) == runs[:15]
    # They took twice as long as was expected: with the seconds of trust, 40 for 25.
    clock.seconds = 30
    assert limit.runs_in_time(runs[15:], seconds) == runs[15 : 15 + int(30 / 4 / (40 / 25))]


@pytest.mark.parametrize("pace", [0.7, 1.0, 3.0])
def test_a_wrong_estimate_costs_little_of_the_time(clock, pace):
    """However far off, the limit holds to within a tenth."""
    left = [f"run {i}" for i in range(1000)]
    limit = TimeLimit(1)
    while chosen := limit.runs_in_time(left, cost(dict.fromkeys(left, 1.0), workers=2)):
        clock.seconds += pace * math.ceil(len(chosen) / 2)
        left = left[len(chosen) :]
    assert 45 < clock.seconds < 66


def test_where_nobody_can_tell_one_run_a_worker_starts_at_a_time(clock):
    unknown = cost({"a": math.nan, "b": math.nan, "c": math.nan}, workers=2)
    limit = TimeLimit(1)
    assert limit.runs_in_time(["a", "b", "c"], unknown) == ["a", "b"]
    clock.seconds = 61
    assert limit.runs_in_time(["c"], unknown) == []


def test_no_time_is_refused():
    for minutes in (0, -1, math.nan):
        with pytest.raises(ConfigError, match="minutes"):
            TimeLimit(minutes)
