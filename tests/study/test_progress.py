"""Progress: what is said while a study runs."""

import dataclasses
import io
from types import SimpleNamespace

import pytest
import tqdm

from hpt.study.progress import Progress, watched
from hpt.training.loop import train


@pytest.fixture
def cost():
    """A study of which each run takes a minute, and whose estimate is 150 s, 30 of them to start."""

    class Cost:
        seconds, start_seconds = 150.0, 30.0

        def seconds_more(self, config):
            return 60.0

        def __str__(self):
            return "tiny: 0 done, 2 to run"

    return Cost()


@pytest.fixture
def results(tiny_run):
    done = train(tiny_run)
    return [done, dataclasses.replace(done, diverged=True, val_loss=float("inf"))]


def test_a_line_a_run_where_nobody_watches(cost, results, capsys, monkeypatch):
    monkeypatch.setenv("HPT_HEADLESS", "1")
    monkeypatch.setattr("hpt.study.progress.time", SimpleNamespace(perf_counter=lambda: 0.0))
    progress = Progress("tiny", cost)
    configs = [result.config for result in results]
    progress.round([], configs)
    for result in results:
        progress.finished(result)
    progress.round(results, configs[:1])
    progress.close()
    first, one, two, more, last = capsys.readouterr().out.splitlines()
    assert first == "tiny: 0 done, 2 to run"
    assert one.startswith("tiny 1/2  SP width 16 log2 lr -6 seed 0: loss ")
    assert one.endswith("; 0 diverged, about 1 min 00 s left")
    assert ": diverged, " in two and two.endswith("; 1 diverged, about 0.0 s left")
    assert more.startswith("tiny: the results so far ask for 1 more runs")
    assert last == "tiny: all 2 runs done, 1 diverged; this call took 0.0 s"


def test_without_a_cost_nothing_is_said(results, capsys):
    progress = Progress("tiny", None)
    progress.round([], [results[0].config])
    progress.finished(results[0])
    progress.close()
    assert capsys.readouterr() == ("", "")


def test_nobody_watches_a_pipe(monkeypatch):
    monkeypatch.delenv("HPT_HEADLESS", raising=False)
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False))
    assert not watched()
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True))
    assert watched()
    monkeypatch.setenv("HPT_HEADLESS", "1")
    assert not watched()


def test_a_bar_knows_its_total_from_the_first_run_on(cost, results, monkeypatch):
    """Also a notebook's, which takes a later total by a reset alone."""
    monkeypatch.setattr("hpt.study.progress.watched", lambda: True)
    made = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, file=io.StringIO(), **options)
            self.maximum = options["total"]
            made.append(self)

        def reset(self, total=None):
            self.maximum = total
            super().reset(total)

    monkeypatch.setattr("hpt.study.progress.tqdm", Bar)
    progress = Progress("tiny", cost)
    configs = [result.config for result in results]
    progress.round([], configs)
    (bar,) = made
    started = bar.start_t
    assert (bar.n, bar.total) == (0, 2) == (bar.n, bar.maximum)
    progress.finished(results[0])
    progress.finished(results[1])
    progress.round(results, configs[:1])
    assert (bar.n, bar.total, bar.maximum, bar.start_t) == (2, 3, 3, started)
    progress.close()
