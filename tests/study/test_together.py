"""Studies trained together: one pool, and a limit on the time."""

import dataclasses
from types import SimpleNamespace

import pytest

from hpt.errors import ConfigError
from hpt.runs.store import Store
from hpt.study import time_limit, together
from hpt.study.executor import Executor
from hpt.study.executor_local import LocalExecutor
from hpt.study.timing import Calibration, Timing, shape_of
from hpt.study.together import Todo, cost_together, run_together
from hpt.training.loop import train


class Here(Executor):
    """Trains in this process, and says that a run takes so many seconds."""

    run_seconds = 1.0
    started = 0
    now = 0.0

    def prepare(self, grid, missing, quiet=False):
        type(self).started += 1

    def time(self, configs):
        timing = Timing(self.run_seconds, 0.0, 0.0)
        return Calibration({shape_of(config): timing for config in configs})

    def run(self, configs):
        for config in configs:
            self.store.save(result := train(config))
            type(self).now += self.run_seconds
            yield result


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setitem(together.EXECUTORS, "local", Here)
    monkeypatch.setattr(Here, "started", 0)
    monkeypatch.setattr(Here, "now", 0.0)
    monkeypatch.setattr(time_limit, "time", SimpleNamespace(monotonic=lambda: Here.now))
    return Here


@pytest.fixture
def pair(tiny_study):
    """Two studies that share runs."""
    return tiny_study.select(["SP"]), dataclasses.replace(
        tiny_study.select(["SP"], [8]), name="small", seeds=2
    )


def test_studies_share_workers_and_runs(tmp_path, here, pair):
    both = run_together(pair, tmp_path, quiet=True)
    assert here.started == 1 and [set(table["width"]) for table in both] == [{8, 16}, {8}]
    ids = [set(table["run_id"]) for table in both]
    assert ids[0] & ids[1] and ids[0] | ids[1] == set(Store(tmp_path).run_ids())
    assert not Todo(pair, Store(tmp_path)).missing
    alone = pair[1].run(tmp_path, quiet=True)
    assert here.started == 1 and alone.equals(both[1])


def test_a_limit_trains_the_coarse_grid_first(tmp_path, here, tiny_study, monkeypatch, capsys):
    """Nine seconds a run leave room for six in a minute; the next call does the rest."""
    monkeypatch.setattr(here, "run_seconds", 9.0)
    table = tiny_study.run(tmp_path, minutes=1)
    # Of three rates every second one is that in the middle.
    assert len(table) == 6 and (table["log2_lr"] == -6).sum() == 4 and set(table["seed"]) == {0}
    assert here.now <= 60 and "stopped in time with 6 runs done" in capsys.readouterr().out
    assert tiny_study.missing(tmp_path)
    monkeypatch.setattr(here, "run_seconds", 0.0)
    whole = tiny_study.run(tmp_path, minutes=1)
    assert not tiny_study.missing(tmp_path) and set(table["run_id"]) < set(whole["run_id"])
    assert "stopped" not in capsys.readouterr().out


def test_where_no_run_ends_in_time_none_is_started(tmp_path, here, tiny_study, monkeypatch):
    monkeypatch.setattr(here, "run_seconds", 1000.0)
    assert tiny_study.run(tmp_path, minutes=0.1, quiet=True).empty
    with pytest.raises(ConfigError, match="minutes"):
        tiny_study.run(tmp_path, minutes=-1)


def test_cost_of_several_counts_shared_runs_once(tmp_path, pair, monkeypatch):
    monkeypatch.setattr(LocalExecutor, "prepare", lambda self, grid, missing, quiet=False: None)
    monkeypatch.setattr(LocalExecutor, "time", Here.time)
    monkeypatch.setattr(LocalExecutor, "run_seconds", 1.0, raising=False)
    cost = cost_together(pair, tmp_path)
    assert cost.now == len(Todo(pair, None).missing) == 9 and cost.name == "tiny"


def test_an_interrupted_study_says_in_a_line_what_is_kept(tmp_path, here, tiny_study, monkeypatch):
    """In a notebook too, which shows the line in place of a traceback."""
    run_one = Here.run

    def broken_off(self, configs):
        yield from run_one(self, configs[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Here, "run", broken_off)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted: 2 of \d+ runs are kept; run it again") as stop:
        run_together([tiny_study], tmp_path, quiet=True)
    assert stop.value._render_traceback_() == [str(stop.value)] and stop.value.__suppress_context__
    monkeypatch.setattr(Here, "run", run_one)
    run_together([tiny_study], tmp_path, quiet=True)
    assert not Todo([tiny_study], Store(tmp_path)).missing
