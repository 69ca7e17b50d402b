"""The processes of a job, as far as one process can tell: devices, shared values, checkpoints."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.training import process_group as module
from hpt.training.distributed import WideTraining
from hpt.training.process_group import (
    from_first,
    process_group,
    resume_checkpoint,
    same_everywhere,
    save_checkpoint,
)

CPU = torch.device("cpu")


@pytest.fixture
def alone():
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_group_that_is_there_is_used_and_left():
    with process_group("cpu") as device:
        assert device == torch.device("cpu")
    assert dist.is_initialized()
    assert from_first({"a": 1}) == {"a": 1} and same_everywhere(3)
    with pytest.raises(KeyError):
        from_first(KeyError("told to all"))


@pytest.mark.usefixtures("alone")
def test_a_run_goes_on_from_the_last_whole_checkpoint(tiny_run, tmp_path):
    data = load(tiny_run.data)
    whole = WideTraining(tiny_run, data, CPU, "ddp")
    assert not resume_checkpoint(whole, tmp_path)
    for until in (4, 8):
        whole.advance(until)
        save_checkpoint(whole, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-8"]
    # A save that was cut short wrote no index.
    (tmp_path / "step-10").mkdir()
    whole.advance(whole.steps)
    resumed = WideTraining(tiny_run, data, CPU, "ddp")
    assert resume_checkpoint(resumed, tmp_path) and resumed.step == 8 and resumed.seconds > 0
    resumed.advance(resumed.steps)
    (ours,), (expected,) = resumed.results(), whole.results()
    assert np.array_equal(ours.train_loss, expected.train_loss)
    assert ours.val_loss == expected.val_loss


@pytest.mark.parametrize(
    ("kind", "said"), [("mps", "no collectives"), ("cuda", "process 3 of this machine sees 2 GPUs")]
)
def test_devices_that_no_process_can_have_are_refused(kind, said, monkeypatch):
    monkeypatch.setattr(module, "pick_device", lambda asked: torch.device(kind))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in module.SET_BY_TORCHRUN:
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ConfigError, match=said), process_group(kind):
        pass


def test_outside_a_job_what_is_missing_is_named(monkeypatch):
    for name in module.SET_BY_TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    missing = "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set"
    with pytest.raises(ConfigError, match=missing), process_group("cpu"):
        pass
