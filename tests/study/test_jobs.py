"""Jobs: which runs go together, and what a job leaves in the store."""

import dataclasses
import hashlib
import json
import threading

import pandas as pd
import pytest
import torch

from hpt.data.source import load
from hpt.runs.store import Store
from hpt.study import jobs
from hpt.study.jobs import plan_jobs, run_job
from hpt.study.profiles import load_profile
from hpt.training import stacked
from hpt.training.loop import train
from hpt.training.memory import SHARE, step_bytes


@pytest.fixture
def runs(tiny_run):
    return [dataclasses.replace(tiny_run, seed=seed) for seed in range(4)]


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as far as plans are concerned; a step holds there what it holds on the CPU."""

    def on_the_cpu(config, device, step):
        return step_bytes(config, torch.device("cpu"), step)

    monkeypatch.setattr(stacked, "step_bytes", on_the_cpu)
    monkeypatch.setattr(jobs, "pick_device", lambda asked: torch.device("cuda"))
    monkeypatch.setattr(stacked, "available_bytes", lambda place: 80e9)


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
    free = 2.5 * step_bytes(runs[0], torch.device("cpu"), stacked.stacked_step) / SHARE
    monkeypatch.setattr(stacked, "available_bytes", lambda place: free)
    assert [len(job) for job in plan_jobs(runs, "cpu", stack=True)[0]] == [2, 2]


def test_a_cpu_stacks_the_smallest_runs_alone(tiny_study):
    sizes = {job[0].model.width: len(job) for job in plan_jobs(load_profile("smoke").plan({}), "cpu")[0]}
    assert sizes == {8: 5, 16: 5, 32: 5, 64: 1}
    jobs_of_quick, why = plan_jobs(load_profile("quick").plan({}), "cpu", workers=2)
    assert {len(job) for job in jobs_of_quick} == {1} and why.startswith("one by one; on a CPU")
    grid = tiny_study.plan({})
    alone, why = plan_jobs(grid, "cpu", stack=False)
    assert {job[0] for job in alone} == set(grid) and {len(job) for job in alone} == {1}
    assert why == "one by one; as asked"


def test_a_gpu_stacks_until_it_is_full(tiny_study, gpu):
    stacks, why = plan_jobs(tiny_study.plan({}))
    assert (
        {len(job) for job in stacks} == {3} and why.startswith("stacks of 3 at width 8") and "estimate" in why
    )
    assert {len(job) for job in plan_jobs(load_profile("quick").plan({}))[0]} == {3}
    gpu_study = load_profile("paper")
    small = dataclasses.replace(
        gpu_study.base, train=dataclasses.replace(gpu_study.base.train, micro_batch_size=1)
    )
    grid = dataclasses.replace(gpu_study, base=small).plan({})
    sizes = {job[0].model.width: len(job) for job in plan_jobs(grid)[0]}
    assert sizes[128] == 7 > sizes[512] > sizes[2048] == 1
    jobs_of_2048, why = plan_jobs([c for c in grid if c.model.width == 2048])
    assert {len(job) for job in jobs_of_2048} == {1} and why.startswith("one by one; a kernel")


def test_run_job_stacks_what_is_missing(tmp_path, runs):
    store, (first, *_) = Store(tmp_path), runs
    store.save(train(first))
    stored = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    fingerprint = load(first.data).fingerprint
    assert run_job(runs, str(tmp_path), "cpu") == [c.run_id(fingerprint) for c in runs]
    results = [store.load(c.run_id(fingerprint)) for c in runs]
    assert [r.stacked for r in results] == [1, 3, 3, 3] and [r.config for r in results] == runs
    assert all((tmp_path / "records" / name).stat().st_mtime_ns == t for name, t in stored.items())


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
