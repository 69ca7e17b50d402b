"""Jobs: which runs go together, and what a job leaves in the store."""

import dataclasses
import hashlib
import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch

from hpt.data.source import load
from hpt.errors import CompileWarning
from hpt.runs.store import Store
from hpt.study import jobs
from hpt.study.jobs import plan_jobs, run_job, shapes_to_compile
from hpt.training import stacked
from hpt.training.loop import train
from hpt.training.members import Pace
from hpt.training.memory import SHARE, step_bytes


@pytest.fixture
def runs(tiny_run):
    return [dataclasses.replace(tiny_run, seed=seed) for seed in range(4)]


@pytest.fixture
def paced(monkeypatch):
    """As timed on a machine where three at once are best at width 8, and one elsewhere."""

    def pace(config, device):
        return Pace(3 if config.model.width == 8 else 1, 0.01)

    monkeypatch.setattr(jobs, "pace", pace)


def test_jobs_hold_each_run_once_and_only_what_stacks(tiny_study):
    grid = tiny_study.plan({})
    stacks, why = plan_jobs(grid, "cpu", stack=True)
    assert sorted(map(id, grid)) == sorted(id(c) for job in stacks for c in job)
    assert len(stacks) == 4 and {len(job) for job in stacks} == {3}  # two parameterizations at two widths
    assert all(len({(c.model, c.parameterization) for c in job}) == 1 for job in stacks)
    assert [job[0].model.width for job in stacks] == [16, 16, 8, 8]
    assert why == "stacks of 3 at width 8, 3 at width 16; as asked"


def test_every_worker_gets_a_job(runs):
    assert [len(job) for job in plan_jobs(runs, "cpu", stack=True)[0]] == [4]
    assert [len(job) for job in plan_jobs(runs, "cpu", workers=2, stack=True)[0]] == [2, 2]
    assert [len(job) for job in plan_jobs(runs, "cpu", workers=9, stack=True)[0]] == [1, 1, 1, 1]


def test_memory_bounds_a_stack(runs, monkeypatch):
    free = 2.5 * step_bytes(runs[0], torch.device("cpu"), stacked=True) / SHARE
    monkeypatch.setattr(stacked, "available_bytes", lambda place: free)
    assert [len(job) for job in plan_jobs(runs, "cpu", stack=True)[0]] == [2, 2]


@pytest.mark.usefixtures("paced")
def test_as_many_go_together_as_the_timing_says(tiny_study):
    grid = tiny_study.plan({})
    found, why = plan_jobs(grid, "cpu")
    assert sorted((job[0].model.width, len(job)) for job in found) == [(8, 3)] * 2 + [(16, 1)] * 6
    assert why == "stacks of 3 at width 8; as many as still brought more tokens a second when timed"
    alone, why = plan_jobs(grid, "cpu", stack=False)
    assert {job[0] for job in alone} == set(grid) and {len(job) for job in alone} == {1}
    assert why == "one by one; as asked"


@pytest.mark.usefixtures("paced")
def test_on_cuda_stacks_are_compiled_where_the_seconds_saved_pay_for_it(runs, monkeypatch):
    monkeypatch.setattr(jobs, "obstacle", lambda device: "")
    monkeypatch.setattr(jobs, "pick_device", lambda asked: torch.device("cuda"))
    monkeypatch.setattr(jobs, "members_that_fit", lambda *_: 99)
    steps = round(jobs.SECONDS_TO_COMPILE / jobs.SHARE_SAVED / 0.01) // len(runs)
    for count, pays in ((steps - 9, False), (steps + 9, True)):
        long = [dataclasses.replace(c, train=dataclasses.replace(c.train, steps=count)) for c in runs]
        shapes, why = shapes_to_compile(long)
        assert bool(shapes) == pays and ("too few" in why) != pays
        assert shapes_to_compile(long, wanted=True)[0]
    assert [len(job) for job in plan_jobs(long, stack=True, compiled=shapes)[0]] == [4]


def test_a_stack_that_cannot_be_compiled_runs_as_it_is(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(jobs, "try_to_compile", lambda configs, *how: f"no luck with {len(configs)}")
    with pytest.warns(CompileWarning, match="width 16 could not be compiled .* no luck with 4"):
        ids = run_job(runs, str(tmp_path), "cpu", stacked=True, compiled=True)
    found = [Store(tmp_path).load(run_id) for run_id in ids]
    assert {(r.stacked, r.compiled) for r in found} == {(4, False)}


def test_run_job_stacks_what_is_missing(tmp_path, runs):
    store, (first, *_) = Store(tmp_path), runs
    store.save(train(first))
    stored = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    fingerprint = load(first.data).fingerprint
    assert run_job(runs, str(tmp_path), "cpu", stacked=True) == [c.run_id(fingerprint) for c in runs]
    results = [store.load(c.run_id(fingerprint)) for c in runs]
    assert [r.stacked for r in results] == [1, 3, 3, 3] and [r.config for r in results] == runs
    assert all((tmp_path / "records" / name).stat().st_mtime_ns == t for name, t in stored.items())


def test_the_bits_of_a_run_do_not_hang_on_how_many_were_missing(tmp_path, runs):
    for folder, missing in (("all", runs), ("one", runs[:1])):
        (run_id, *_) = run_job(missing, str(tmp_path / folder), "cpu", stacked=True)
    of_all, alone = (Store(tmp_path / folder).load(run_id) for folder in ("all", "one"))
    assert (of_all.stacked, alone.stacked) == (4, 1)
    assert of_all.val_loss == alone.val_loss and np.array_equal(of_all.train_loss, alone.train_loss)


def test_run_job_waits_for_who_has_a_member(tmp_path, runs):
    store, result = Store(tmp_path), train(runs[2])
    with store.lock(result.run_id):
        job = threading.Thread(target=run_job, args=(runs, str(tmp_path), "cpu"))
        job.start()
        store.save(dataclasses.replace(result, device="elsewhere"))
    job.join(60)
    assert store.load(result.run_id).device == "elsewhere"
    assert len(list(store.run_ids())) == 4


def test_a_record_from_before_stacks_is_still_read(tmp_path, tiny_run):
    store, result = Store(tmp_path), train(tiny_run)
    file = store.save(result)
    values = json.loads(file.read_text().splitlines()[1])
    assert values.pop("stacked") == 1
    body = json.dumps(values)
    file.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n")
    assert store.load(result.run_id).stacked == 1


def test_a_study_of_stacks_gives_the_same_table(tmp_path, tiny_study, capsys):
    study = tiny_study.select(["SP"])
    tables = [study.run(tmp_path / str(stack), workers=1, stack=stack) for stack in (False, True)]
    out = capsys.readouterr().out
    assert "; one by one; as asked" in out and "; stacks of 3 at width 8" in out
    times = ["seconds", "tokens_per_second"]
    pd.testing.assert_frame_equal(*(t.drop(columns=times) for t in tables), rtol=2e-5)
    assert {r.stacked for r in study.results(tmp_path / "False")} == {1}
    assert {r.stacked for r in study.results(tmp_path / "True")} > {3}
