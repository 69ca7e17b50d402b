"""What a study costs before it starts."""

import concurrent.futures
import dataclasses
import math

import psutil
import pytest
from click.testing import CliRunner

from hpt.cli import main
from hpt.runs.store import Store
from hpt.study.controls import warmup_studies
from hpt.study.cost import duration, in_bytes, record_bytes, wall_seconds
from hpt.study.executor_local import LocalExecutor
from hpt.study.profiles import load_profile
from hpt.training.loop import train


class InProcess:
    """One worker: this process."""

    def submit(self, task, *args):
        done = concurrent.futures.Future()
        done.set_result(task(*args))
        return done

    def shutdown(self, cancel_futures):
        pass


@pytest.fixture
def no_pool(monkeypatch):
    """Studies' workers are this process, which saves their start."""
    monkeypatch.setattr(LocalExecutor, "_start", lambda self: setattr(self, "_pool", InProcess()))


def wider(run, width):
    return dataclasses.replace(run, model=dataclasses.replace(run.model, width=width))


def changed(run, **values):
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


def test_record_bytes_are_those_of_a_record(tmp_path, tiny_run):
    long = changed(tiny_run, steps=1000)
    assert record_bytes(long) == pytest.approx(Store(tmp_path).save(train(long)).stat().st_size, rel=0.3)
    assert record_bytes(tiny_run) == 4096 >= Store(tmp_path).save(train(tiny_run)).stat().st_size


@pytest.mark.usefixtures("no_pool")
def test_dry_run_says_all_and_trains_nothing(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path_factory.mktemp("empty_cache")))
    monkeypatch.setattr("hpt.training.loop.train", None)
    monkeypatch.setattr("hpt.study.timing.SECONDS", 0.1)
    study = load_profile("smoke")
    alone = set(study.plan({}))
    # What notebook 01 takes from the store beside the study.
    beside = alone.union(*(warmup.plan({}) for warmup in warmup_studies(study)))
    assert len(alone) == 60 < len(beside)
    for command, runs in (("study", len(alone)), ("notebooks", len(beside))):
        done = CliRunner().invoke(
            main, [command, "--dry-run", "--profile=smoke", "--workers=1", f"--store={tmp_path / 'store'}"]
        )
        assert done.exit_code == 0, done.output
        for words in (f"{runs} to run", "FLOPs", "time    about", "memory", "disk", "tokenized"):
            assert words in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_pool")
def test_cost_by_width_and_in_words(tmp_path, tiny_study):
    cost = tiny_study.cost(tmp_path, workers=1)
    frame = cost.to_frame()
    assert frame.width.tolist() == [8, 16] and frame.runs.sum() == cost.runs == 24
    assert frame.flops.sum() == pytest.approx(cost.flops) and frame.memory_bytes.is_monotonic_increasing
    assert cost.seconds == pytest.approx(cost.start_seconds + frame.seconds.sum())
    assert not cost.warnings and "WARNING" not in str(cost) and str(cost).count("\n") == 4
    assert cost._repr_html_().startswith("<pre>tiny: 0 done, 12 to run")


@pytest.mark.usefixtures("no_pool")
def test_short_memory_and_disk_are_told(tmp_path, tiny_study, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000_000))
    monkeypatch.setattr("hpt.study.cost.free_disk", lambda _: 5000.0)
    cost = tiny_study.cost(tmp_path, workers=1)
    assert len(cost.warnings) == 2 and cost.seconds > 0
    assert "10 MB are free" in str(cost) and "5 kB are free" in str(cost) and str(cost).count("WARNING") == 2
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000))
    assert math.isnan(tiny_study.cost(tmp_path, workers=1).seconds)  # what cannot fit is not tried


@pytest.mark.usefixtures("no_pool")
def test_a_finished_study_costs_nothing(tmp_path, tiny_study):
    study = dataclasses.replace(tiny_study.select(["SP"], [8]), best_seeds=1, extend=0)
    for config in study.plan({}):
        Store(tmp_path).save(train(config))
    cost = study.cost(tmp_path, workers=1)
    assert (cost.done, cost.runs, cost.seconds, cost.memory_bytes, cost.disk_bytes) == (3, 0, 0.0, 0.0, 0.0)


def test_what_cannot_run_here_has_no_time(tmp_path):
    cost = load_profile("paper").cost(tmp_path / "store", device="cpu")
    assert cost.flops > 1e20 and math.isnan(cost.seconds) and math.isnan(cost.memory_bytes)
    assert "time    unknown" in str(cost) and "needs a CUDA GPU" in str(cost) and not cost.warnings


def test_sizes_in_words():
    assert [in_bytes(x) for x in (0, 512, 3.14e6, 24.1e9)] == ["0 B", "512 B", "3.14 MB", "24.1 GB"]
    assert in_bytes(float("nan")) == "unknown"


def test_durations_in_words():
    said = [duration(x) for x in (0.84, 41.7, 192, 7500, 276_000, float("nan"))]
    assert said == ["0.8 s", "42 s", "3 min 12 s", "2 h 05 min", "3.2 days", "an unknown time"]


def test_workers_share_the_runs_longest_first():
    assert wall_seconds([1, 1, 1, 3], 2) == 3 and wall_seconds([2, 2, 2], 2) == 4
    assert wall_seconds([], 2) == 0 and math.isnan(wall_seconds([math.nan], 2))


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_round_before_they_choose_a_unit(seconds, text):
    assert duration(seconds) == text
