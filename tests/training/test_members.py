"""How many train at once: as many as still bring more, within memory, timed once."""

import dataclasses
import math

import pytest
import torch

from hpt.training import members
from hpt.training.members import Pace, pace

CPU = torch.device("cpu")


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Steps of 10 ms and, from the fifth member on, 2 ms a member; what was timed."""
    calls = []

    def seconds(configs, device):
        calls.append(len(configs))
        return 0.01 + 0.002 * max(0, len(configs) - 4)

    monkeypatch.setattr(members, "_step_seconds", seconds)
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    return calls


def test_members_are_doubled_while_that_brings_more(tiny_run, timed):
    # Tokens a second in units of one member's: 1, 2, 4, 4.4, 4.7, 4.8.
    assert pace(tiny_run, CPU) == pytest.approx(Pace(8, 0.018)) and timed == [1, 2, 4, 8, 16, 32]
    train = dataclasses.replace(tiny_run.train, lr=0.5, weight_decay=0.1)
    assert pace(dataclasses.replace(tiny_run, seed=3, train=train), CPU).members == 8 and len(timed) == 6
    wider = dataclasses.replace(tiny_run, model=dataclasses.replace(tiny_run.model, width=32))
    assert pace(wider, CPU).members == 8 and len(timed) == 12


def test_the_first_doubling_may_bring_nothing(tiny_run, timed, monkeypatch):
    monkeypatch.setattr(
        members, "_step_seconds", lambda configs, device: 0.012 if len(configs) > 1 else 0.005
    )
    monkeypatch.setattr(members, "members_that_fit", lambda *_: 8)
    assert pace(tiny_run, CPU) == pytest.approx(Pace(8, 0.012))


def test_memory_bounds_them(tiny_run, timed, monkeypatch):
    monkeypatch.setattr(members, "members_that_fit", lambda *_: 3)
    assert pace(tiny_run, CPU).members == 2 and timed == [1, 2]


def test_where_none_fits_a_run_is_tried_alone(tiny_run, timed, monkeypatch):
    def full(configs, device):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(members, "_step_seconds", full)
    found = pace(tiny_run, CPU)
    assert found.members == 1 and math.isnan(found.step_seconds)


def test_a_step_takes_time(tiny_run, monkeypatch):
    monkeypatch.setattr(members, "SECONDS", 0.0)
    threads = torch.get_num_threads()
    found = pace(tiny_run, CPU)
    assert found.members >= 1 and 0 < found.step_seconds < 60 and torch.get_num_threads() == threads
