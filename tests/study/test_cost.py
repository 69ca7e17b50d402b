"""What a study costs before it starts."""

import dataclasses
import math
import time

import psutil
import pytest
import torch
from click.testing import CliRunner
from torch.profiler import ProfilerActivity, profile

import hpt.study.cost
import hpt.training.loop
from hpt.cli import main
from hpt.runs.store import Store
from hpt.study.cost import duration, in_bytes, record_bytes
from hpt.study.plan import forecast
from hpt.study.profiles import load_profile
from hpt.study.threads import wall_seconds
from hpt.study.timing import calibrate, shape_of
from hpt.training.adamw import STATE_BYTES
from hpt.training.loop import build_model, train
from hpt.training.memory import step_bytes


class Here:
    """One worker: this process."""

    workers, cores, device, stack, why, threads, compiled = (
        1,
        1,
        "cpu",
        None,
        "here",
        {},
        frozenset(),
    )

    def compile(self, shapes, quiet=False):
        self.compiled = shapes

    def submit(self, task, *args):
        self.value = task(*args)
        return self

    def result(self):
        return self.value


@pytest.fixture
def no_pool(monkeypatch):
    """Studies' workers are this process, which saves their start."""
    monkeypatch.setattr("hpt.study.study.Pool", lambda *_, **__: _Opened())


class _Opened(Here):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def plan(self, configs):
        return [(c,) for c in configs], "one by one"


def wider(run, width):
    return dataclasses.replace(run, model=dataclasses.replace(run.model, width=width))


def changed(run, **values):
    return dataclasses.replace(run, train=dataclasses.replace(run.train, **values))


def test_a_shape_is_all_that_costs_time(tiny_run):
    alike = [
        tiny_run,
        dataclasses.replace(tiny_run, seed=3, parameterization="mup"),
        changed(tiny_run, lr=0.5),
    ]
    assert len(set(map(shape_of, alike))) == 1
    others = [wider(tiny_run, 32), changed(tiny_run, batch_size=2), changed(tiny_run, clip=1.0)]
    assert len(set(map(shape_of, [tiny_run, *others]))) == 4


def test_the_estimate_grows_with_steps_and_width(tiny_run):
    wide = wider(tiny_run, 256)
    found = calibrate(Here(), [tiny_run, wide])
    assert 0 < found.run_seconds(tiny_run) < found.run_seconds(wide)
    timing = found.timings[shape_of(wide)]
    more = found.run_seconds(changed(wide, steps=112)) - found.run_seconds(wide)
    assert more == pytest.approx(100 * timing.step_seconds)
    assert found.base_bytes > 5e7 and found.free_bytes > 0


def test_calibration_times_the_code_that_trains(tiny_run, monkeypatch):
    """Whatever makes a training step slower makes the estimate longer by as much, step by step."""
    backward, pause = hpt.training.loop.backward, 0.02

    def slow(*args):
        time.sleep(pause)
        return backward(*args)

    usual = calibrate(Here(), [tiny_run]).timings[shape_of(tiny_run)]
    monkeypatch.setattr(hpt.training.loop, "backward", slow)
    slowed = calibrate(Here(), [tiny_run]).timings[shape_of(tiny_run)]
    assert slowed.step_seconds > usual.step_seconds + 0.5 * pause and slowed.step_seconds > pause


def test_large_shapes_are_tried_on_fewer_sequences_or_not_at_all(tiny_run, monkeypatch):
    monkeypatch.setattr("hpt.study.timing.SECONDS_A_SHAPE", 0.0)
    flops = hpt.study.cost.run_flops(shape_of(tiny_run))
    monkeypatch.setitem(
        hpt.study.timing.MOST_STEP_FLOPS, "cpu", flops / 2
    )  # two of its four sequences
    large = wider(tiny_run, 128)
    found = calibrate(Here(), [tiny_run, large])
    assert list(found.timings) == [shape_of(tiny_run)]
    step = found.timings[shape_of(tiny_run)].step_seconds
    assert found.run_seconds(large) == pytest.approx(step * hpt.study.cost.run_flops(large) / flops)
    monkeypatch.setitem(hpt.study.timing.MOST_STEP_FLOPS, "cpu", flops / 9)
    assert math.isnan(calibrate(Here(), [tiny_run]).run_seconds(tiny_run))


def test_workers_are_timed_together_before_a_study_runs(tmp_path, tiny_study, capsys):
    """The one test with processes of its own."""
    table = tiny_study.select(["SP"], [8]).run(tmp_path, workers=2)
    said = capsys.readouterr().out
    assert said.startswith("tiny: 0 done, 3 to run, then about 3 as the results ask; up to 1 more")
    assert "time    about" in said and "memory" in said and "disk" in said
    assert 5 <= len(table) <= 7


def test_forecast_bounds_every_outcome(tiny_study):
    now, later, more = forecast(tiny_study.plan, {})
    assert (len(now), len(later)) == (12, 12)
    finals = []
    for optimum in range(-40, 41):
        known = {}
        while new := [c for c in tiny_study.plan(known) if c not in known]:
            known |= {c: abs(math.log2(c.train.lr) - optimum / 2) for c in new}
        finals.append(len(known))
    assert max(finals) == len(now) + len(later) + more
    half = dict.fromkeys(now[:6], 1.0)
    assert len(forecast(tiny_study.plan, half)[0]) >= 6 and not set(half) & set(
        forecast(tiny_study.plan, half)[0]
    )


@pytest.mark.parametrize(("width", "precision"), [(32, "fp32"), (128, "bf16")])
def test_step_bytes_are_what_the_profiler_sees(tiny_run, width, precision):
    run = changed(wider(tiny_run, width), precision=precision, batch_size=16)
    ids_BxT = torch.zeros(16, run.model.context, dtype=torch.int64)
    model = build_model(run)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        hpt.training.loop.backward(model, ids_BxT, ids_BxT, dtype, len(ids_BxT))
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    weights = sum(p.nbytes for p in model.parameters())
    adamw = STATE_BYTES * weights // 4
    assert step_bytes(run, torch.device("cpu")) == pytest.approx(most + weights + adamw, rel=0.1)


def test_micro_batches_need_less_memory(tiny_run):
    whole, parts = (
        step_bytes(changed(tiny_run, batch_size=64, micro_batch_size=m), torch.device("cpu"))
        for m in (None, 8)
    )
    assert parts < 0.5 * whole


def test_record_bytes_are_those_of_a_record(tmp_path, tiny_run):
    long = changed(tiny_run, steps=1000)
    assert record_bytes(long) == pytest.approx(
        Store(tmp_path).save(train(long)).stat().st_size, rel=0.3
    )
    assert record_bytes(tiny_run) == 4096 >= Store(tmp_path).save(train(tiny_run)).stat().st_size


@pytest.mark.usefixtures("no_pool")
def test_dry_run_says_all_and_trains_nothing(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path_factory.mktemp("empty_cache")))
    monkeypatch.setattr("hpt.training.loop.train", None)
    monkeypatch.setattr("hpt.study.timing.SECONDS", 0.1)
    for command in ("study", "notebooks"):
        done = CliRunner().invoke(
            main, [command, "--dry-run", "--profile=smoke", f"--store={tmp_path / 'store'}"]
        )
        assert done.exit_code == 0, done.output
        for words in ("60 to run", "FLOPs", "time    about", "memory", "disk", "tokenized"):
            assert words in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_pool")
def test_cost_by_width_and_in_words(tmp_path, tiny_study):
    cost = tiny_study.cost(tmp_path)
    frame = cost.to_frame()
    assert frame.width.tolist() == [8, 16] and frame.runs.sum() == cost.runs == 24
    assert (
        frame.flops.sum() == pytest.approx(cost.flops)
        and frame.memory_bytes.is_monotonic_increasing
    )
    assert cost.seconds == pytest.approx(cost.start_seconds + frame.seconds.sum())
    assert not cost.warnings and "WARNING" not in str(cost) and str(cost).count("\n") == 4
    assert cost._repr_html_().startswith("<pre>tiny: 0 done, 12 to run")


@pytest.mark.usefixtures("no_pool")
def test_short_memory_and_disk_are_told(tmp_path, tiny_study, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000_000))
    monkeypatch.setattr("hpt.study.cost.free_disk", lambda _: 5000.0)
    cost = tiny_study.cost(tmp_path)
    assert len(cost.warnings) == 2 and cost.seconds > 0
    assert (
        "10 MB are free" in str(cost)
        and "5 kB are free" in str(cost)
        and str(cost).count("WARNING") == 2
    )
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000))
    assert math.isnan(tiny_study.cost(tmp_path).seconds)  # what cannot fit is not tried


@pytest.mark.usefixtures("no_pool")
def test_a_finished_study_costs_nothing(tmp_path, tiny_study):
    study = dataclasses.replace(tiny_study.select(["SP"], [8]), best_seeds=1, extend=0)
    for config in study.plan({}):
        Store(tmp_path).save(train(config))
    cost = study.cost(tmp_path)
    assert (cost.done, cost.runs, cost.seconds, cost.memory_bytes, cost.disk_bytes) == (
        3,
        0,
        0.0,
        0.0,
        0.0,
    )


def test_what_cannot_run_here_has_no_time(tmp_path):
    cost = load_profile("gpu").cost(tmp_path / "store", device="cpu")
    assert cost.flops > 1e20 and math.isnan(cost.seconds) and math.isnan(cost.memory_bytes)
    assert "time    unknown" in str(cost) and "needs a CUDA GPU" in str(cost) and not cost.warnings


def test_sizes_in_words():
    assert [in_bytes(x) for x in (0, 512, 3.14e6, 24.1e9)] == ["0 B", "512 B", "3.14 MB", "24.1 GB"]
    assert in_bytes(float("nan")) == "unknown"


def test_durations_in_words():
    said = [duration(x) for x in (0.84, 41.7, 192, 7500, 276_000, float("nan"))]
    assert said == ["0.8 s", "42 s", "3 min 12 s", "2 h 05 min", "3.2 days", "an unknown time"]


def test_workers_share_the_runs_longest_first():
    assert (
        wall_seconds([(1, 1), (1, 1), (1, 1), (3, 1)], 2) == 3
        and wall_seconds([(2, 1)] * 3, 2) == 4
    )
    assert wall_seconds([(2, 2), (1, 1), (1, 1), (1, 1)], 2) == 4  # two threads have both cores
    assert wall_seconds([], 2) == 0


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
