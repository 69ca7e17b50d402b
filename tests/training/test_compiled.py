"""Compiled steps: the numbers of steps operation by operation, one program for all that shares it,
or a reason."""

import concurrent.futures
import dataclasses
import importlib

import numpy as np
import pytest
import torch
from changed_run import changed

from hpt.errors import CompileWarning, ConfigError
from hpt.runs.store import Store
from hpt.study import timing as calibration
from hpt.study.executor_local import LocalExecutor
from hpt.study.jobs import STEPS_TO_COMPILE, plan_jobs, shapes_to_compile
from hpt.study.timing import shape_of
from hpt.training import kernels
from hpt.training.compiled import train_compiled
from hpt.training.loop import Training, train
from hpt.training.programs import obstacle

# torch reads CXX when this is imported: before a test sets it to something that is no compiler.
importlib.import_module("torch._inductor.config")
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("programs")
needs_compiler = pytest.mark.skipif(bool(obstacle(CPU)), reason=obstacle(CPU))


@needs_compiler
def test_a_compiled_run_gives_what_an_eager_one_gives(run):
    runs = [
        changed(run, lr=2.0**-7),
        changed(run, "SP+Embd", lr=2.0**-8, weight_decay=0.5, seed=3),
        changed(run, "μP", lr=2.0**-9, weight_decay=0.1, steps=12),
    ]
    for config in runs:
        ours, eager = train_compiled(config), train(config, device="cpu")
        assert ours.compiled and not eager.compiled and ours.stacked == 1
        assert (ours.run_id, ours.config, ours.tokens) == (eager.run_id, config, eager.tokens)
        np.testing.assert_allclose(ours.train_loss, eager.train_loss, rtol=2e-5)
        np.testing.assert_allclose(ours.val_loss, eager.val_loss, rtol=2e-5)
        again = train_compiled(config)
        assert np.array_equal(again.train_loss, ours.train_loss) and again.val_loss == ours.val_loss


@needs_compiler
def test_every_option_of_the_model_compiles(run, monkeypatch):
    monkeypatch.setattr(kernels, "LONG_ROW", run.model.vocab_size)
    options = dataclasses.replace(
        run.model,
        kv_heads=1,
        norm="rmsnorm",
        norm_gain="scalar",
        positions="rotary",
        bias=True,
        activation="swiglu",
        tie_readout=True,
        qk_norm=True,
        embedding_norm=True,
    )
    config = dataclasses.replace(changed(run, "μP", micro_batch_size=2), model=options)
    ours, eager = train_compiled(config), train(config, device="cpu")
    np.testing.assert_allclose(ours.train_loss, eager.train_loss, rtol=2e-5)
    np.testing.assert_allclose(ours.val_loss, eager.val_loss, rtol=2e-5)


@needs_compiler
def test_a_run_that_diverges_stops(run):
    ours, eager = train_compiled(changed(run, lr=1e6)), train(changed(run, lr=1e6), device="cpu")
    assert ours.diverged and len(ours.train_loss) == len(eager.train_loss) < run.train.steps


def test_a_study_compiles_what_takes_many_steps(run, monkeypatch):
    monkeypatch.setattr("hpt.study.jobs.obstacle", lambda place: "")
    grid = [changed(run, p, steps=STEPS_TO_COMPILE // 4, lr=lr) for p in ("SP", "μP") for lr in (0.1, 0.2)]
    wide = dataclasses.replace(grid[0], model=dataclasses.replace(run.model, width=32))
    shapes, why = shapes_to_compile([*grid, wide], "cpu")
    assert shapes == {shape_of(run)} and why == "steps compiled at width 16"
    assert {len(job) for job in plan_jobs(grid, "cpu", compiled=shapes)[0]} == {1}
    assert {len(job) for job in plan_jobs(grid, "cpu", stack=True, compiled=shapes)[0]} == {2}
    assert shapes_to_compile(grid[1:], "cpu") == (frozenset(), "steps not compiled: too few to pay for it")
    assert shapes_to_compile([wide], "cpu", True)[0] == {shape_of(wide)}
    assert shapes_to_compile(grid, "cpu", False) == (frozenset(), "steps not compiled, as asked")
    micro = [changed(c, micro_batch_size=2, steps=c.train.steps) for c in grid]
    assert shapes_to_compile(micro, "cpu")[0] == {shape_of(micro[0])}


def test_where_nothing_can_be_compiled_a_reason_is_given(run, tiny_study, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in obstacle(CPU) and "mps" in obstacle(torch.device("mps"))
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
        train_compiled(changed(run, beta1=0.8))
    many = [changed(run, steps=STEPS_TO_COMPILE)]
    shapes, why = shapes_to_compile(many, "cpu")
    assert not shapes and "no-such-compiler" in why
    with pytest.raises(ConfigError, match="compiled=None"):
        tiny_study.run(tmp_path, compiled=True, device="cpu", quiet=True)


def test_a_step_that_cannot_be_compiled_runs_as_it_is(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    store = Store(tmp_path / "store")
    with LocalExecutor(store, 1, "cpu", compile=True) as executor:
        with pytest.warns(CompileWarning, match="width 16 could not be compiled"):
            executor.prepare([run], [run], quiet=True)
        assert not executor.compiled
        (result,) = executor.run([run])
    assert not result.compiled and not list(tmp_path.glob("programs/*.pt2"))


@needs_compiler
def test_a_study_of_compiled_runs_is_the_study(run, tiny_study, tmp_path, capsys):
    study = dataclasses.replace(
        tiny_study,
        base=run,
        parameterizations=("SP", "SP+Embd"),
        log2_lrs={16: (-8, -7, -6)},
        best_seeds=1,
        extend=0,
    )
    table = study.run(tmp_path / "compiled", compiled=True, device="cpu", workers=1)
    results = study.results(tmp_path / "compiled")
    assert all(r.compiled for r in results) and "steps compiled at width 16" in capsys.readouterr().out
    eager = study.run(tmp_path / "eager", compiled=False, device="cpu", workers=1, quiet=True)
    np.testing.assert_allclose(table["loss"], eager["loss"], rtol=1e-4)
    assert table["run_id"].tolist() == eager["run_id"].tolist()


@needs_compiler
def test_an_estimate_times_the_compiled_step(run, monkeypatch):
    class Here:
        workers, device, compiled = 1, "cpu", {shape_of(run)}

        def jobs(self, runs):
            return [[run] for run in runs], ""

        def submit(self, task, *args):
            done = concurrent.futures.Future()
            done.set_result(task(*args))
            return done

    made = []
    monkeypatch.setattr(calibration, "SECONDS", 0.05)
    monkeypatch.setattr(calibration, "Training", lambda *a: made.append(a[-1]) or Training(*a))
    found = calibration.calibrate(Here(), [run])
    assert made == 4 * [True] and found.run_seconds(run) > 0  # loaded and tried, then loaded and timed
    made.clear()
    calibration.calibrate(Here(), [run, changed(run, batch_size=5)])  # the second is not compiled
    assert made.count(False) == 2 and made.count(True) == 4  # each kind is tried before it is timed
