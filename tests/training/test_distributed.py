"""One run on two gloo processes: the losses of one process, one decision, and a job that is killed
goes on."""

import dataclasses
import gc
import math
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import hpt
from hpt.data.source import load
from hpt.errors import ConfigError, StoreError
from hpt.runs.store import Store
from hpt.training import distributed as wide
from hpt.training import process_group as checkpoints

WAYS = ("ddp", "fsdp")


def cases(run):
    """Runs by name. Adam forgives a gradient of the wrong size, a large ε or a clipped norm does
    not."""

    def changed(parameterization, model=None, **values):
        train = dataclasses.replace(run.train, **{"validation_sequences": 9, **values})
        model = dataclasses.replace(run.model, **(model or {}))
        return hpt.RunConfig(model=model, data=run.data, train=train, parameterization=parameterization)

    return {
        "SP+Embd": changed("sp+embd", eps=0.01, weight_decay=0.1),
        "μP": changed("mup", clip=0.3, micro_batch_size=1),
        "tied": changed("mup", {"tie_readout": True, "norm_gain": "scalar", "positions": "rotary"}),
        "bf16": changed("sp+embd", precision="bf16"),
        "diverging": changed("sp", lr=1e6),
    }


class Recorder:
    """Data that note which steps' batches are asked for."""

    def __init__(self, source):
        self.source, self.steps = source, []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def batch(self, seed, step, *shape):
        self.steps.append(step)
        return self.source.batch(seed, step, *shape)


def error_of(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def killed_in_second_save(call):
    """Make ``call`` fail while it writes its second checkpoint, half of which is there."""
    save, saved = checkpoints.dcp.save, []

    def half(state, checkpoint_id):
        if saved:
            checkpoint_id.mkdir(exist_ok=True)
            (checkpoint_id / f"__{dist.get_rank()}_0.distcp").write_bytes(b"half")
            raise InterruptedError
        saved.append(save(state, checkpoint_id=checkpoint_id))

    checkpoints.dcp.save = half
    try:
        assert isinstance(error_of(call), InterruptedError)
    finally:
        checkpoints.dcp.save = save


def worker(rank, folder, run):
    # A process of the test has a core, or less.
    torch.set_num_threads(1)
    # A port that is free when asked for may be taken when they meet.
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    found, named, source = {}, cases(run), load(run.data)
    wide.LOCK_SECONDS = 0.1
    for way in WAYS:
        for name, config in named.items():
            found[way, name] = hpt.train_wide(config, device="cpu", shard=way)

        def go_on(way, name="SP+Embd", folder=folder / way):
            recorder = Recorder(source)
            result = hpt.train_wide(
                named[name], data=recorder, device="cpu", shard=way, checkpoint=folder, every=4
            )
            return result, recorder.steps

        killed_in_second_save(lambda: go_on(way))  # noqa: B023
        dist.barrier()
        if rank == 0:
            shutil.copytree(folder / way, folder / f"{way} alone")
        found[way, "resumed"] = go_on(way)
    stored = Recorder(source)
    found["stored"] = [
        hpt.train_wide(
            named["μP"],
            data=stored,
            device="cpu",
            store=folder / "store",
            checkpoint=folder / "store" / "unfinished",
            every=4,
        )
        for _ in range(2)
    ]
    found["steps for the store"] = len(stored.steps)
    found["busy"] = error_of(lambda: hpt.train_wide(named["μP"], device="cpu", store=folder / "busy"))
    odd = dataclasses.replace(run, train=dataclasses.replace(run.train, batch_size=3))
    found["odd"] = error_of(lambda: hpt.train_wide(odd, device="cpu"))
    found["unequal"] = error_of(lambda: hpt.train_wide(dataclasses.replace(run, seed=rank), device="cpu"))
    dist.barrier()
    gc.collect()  # failed calls leave models in cycles, and a model must not outlive its group
    dist.destroy_process_group()
    if rank == 0:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        found["alone"] = {way: go_on("ddp", folder=folder / f"{way} alone") for way in WAYS}
        dist.destroy_process_group()
    checkpoints.torch.save(found, folder / f"found{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wide")


@pytest.fixture(scope="module")
def found(folder, tiny_run):
    """What both processes report."""
    with Store(folder / "busy").lock(cases(tiny_run)["μP"].run_id(load(tiny_run.data).fingerprint)):
        mp.spawn(worker, args=(folder, tiny_run), nprocs=2)
    return [checkpoints.torch.load(folder / f"found{rank}.pt", weights_only=False) for rank in range(2)]


def assert_same_run(result, expected, tolerance=1e-5):
    assert result.config == expected.config and result.run_id == expected.run_id
    np.testing.assert_allclose(result.train_loss, expected.train_loss, rtol=0, atol=tolerance)
    assert result.val_loss == pytest.approx(expected.val_loss, abs=tolerance)
    assert (result.diverged, result.tokens) == (expected.diverged, expected.tokens)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["SP+Embd", "μP", "tied"])
def test_losses_are_those_of_one_process(found, tiny_run, way, name):
    alone = hpt.train(cases(tiny_run)[name], device="cpu")
    assert len(alone.train_loss) == tiny_run.train.steps
    for result in found:
        assert_same_run(result[way, name], alone)


def test_sharded_bf16_gives_the_bits_of_unsharded(found, tiny_run):
    ddp, fsdp = (found[0][way, "bf16"] for way in WAYS)
    assert np.array_equal(ddp.train_loss, fsdp.train_loss) and ddp.val_loss == fsdp.val_loss
    assert ddp.precision == "bf16" and ddp.val_loss != found[0]["ddp", "SP+Embd"].val_loss
    assert_same_run(fsdp, hpt.train(cases(tiny_run)["bf16"], device="cpu"), 0.01)


@pytest.mark.parametrize("way", WAYS)
def test_all_processes_take_the_same_decisions(found, tiny_run, way):
    for name in cases(tiny_run):
        first, second = (f[way, name] for f in found)
        assert np.array_equal(first.train_loss, second.train_loss, equal_nan=True)
        assert first.val_loss == second.val_loss and first.device.startswith("2 × cpu")
    assert first.diverged and first.val_loss == math.inf and len(first.train_loss) < tiny_run.train.steps


@pytest.mark.parametrize("way", WAYS)
def test_a_run_killed_in_a_save_goes_on_from_the_one_before(found, way):
    for f in found:
        resumed, steps = f[way, "resumed"]
        assert steps == list(range(4, 12))
        assert np.array_equal(resumed.train_loss, f[way, "SP+Embd"].train_loss)
        assert resumed.val_loss == f[way, "SP+Embd"].val_loss


@pytest.mark.parametrize("way", WAYS)
def test_one_process_goes_on_where_two_stopped(found, way):
    resumed, steps = found[0]["alone"][way]
    assert steps == list(range(4, 12))
    assert_same_run(resumed, found[0][way, "SP+Embd"])


def test_the_record_is_stored_once_and_found_again(found, folder, tiny_run):
    for f in found:
        trained, read = f["stored"]
        assert f["steps for the store"] == tiny_run.train.steps and read.val_loss == trained.val_loss
    alone = hpt.train(tiny_run, device="cpu")
    assert Store(folder / "store").load(read.run_id).device == f"2 × {alone.device}, ddp"
    assert not list((folder / "store" / "unfinished").iterdir())


def test_mistakes_are_told_in_every_process(found):
    for f in found:
        assert isinstance(f["busy"], StoreError) and "another job" in str(f["busy"])
        assert isinstance(f["odd"], ConfigError) and "batch_size=4" in f["odd"].remedy
        assert isinstance(f["unequal"], ConfigError) and "different runs" in str(f["unequal"])


def test_outside_a_job_torchrun_is_named(tiny_run):
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node"):
        hpt.train_wide(tiny_run, device="cpu")
    with pytest.raises(ConfigError, match="zero"):
        hpt.train_wide(tiny_run, shard="zero")


def test_a_killed_torchrun_job_goes_on(tiny_run, tmp_path):
    (tmp_path / "run.toml").write_text(
        'seed = 3\nparameterization = "sp+embd"\n'
        "[model]\nwidth = 16\ndepth = 1\nd_head = 8\nvocab_size = 32\ncontext = 16\n"
        '[data]\nsource = "synthetic"\nvocab_size = 32\n'
        '[train]\nsteps = 300\nbatch_size = 4\nvalidation_sequences = 8\nprecision = "fp32"\n'
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "hpt",
        "wide",
        "run.toml",
        "--store",
        "store",
        "--device",
        "cpu",
        "--checkpoint",
        "unfinished",
        "--every",
        "10",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as job:
        while job.poll() is None and not list(tmp_path.glob("unfinished/*/step-*/.metadata")):
            time.sleep(0.01)
        for process in [*psutil.Process(job.pid).children(recursive=True), job]:
            process.kill()
    assert not list(tmp_path.glob("store/records/*.json"))
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    assert "goes on from the checkpoint of step" in done.stderr and done.stdout.count("nats") == 1
    (record,) = tmp_path.glob("store/records/*.json")
    result = Store(tmp_path / "store").load(record.stem)
    assert_same_run(result, hpt.train(result.config, device="cpu"), 1e-4)
    assert result.config.seed == 3 and len(result.train_loss) == 300
