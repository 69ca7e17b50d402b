"""The processes of one job: where each computes, values that all of them share, and checkpoints that
they write together.

Shapes: R runs that train at once, S steps.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from hpt.device import pick_device
from hpt.errors import ConfigError
from hpt.training.loop import Run

SET_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def process_group(device: str = "auto") -> Iterator[torch.device]:
    """The group of all processes of the job, nccl on GPUs and gloo on CPUs, and this process'
    device.

    A group that is there already is used and left as it is.

    Raises
    ------
    ConfigError: outside a job of torchrun, or with fewer GPUs than processes on a machine.
    """
    if dist.is_initialized():
        yield _own_device(device, dist.get_rank())
        return
    missing = [name for name in SET_BY_TORCHRUN if name not in os.environ]
    if missing:
        raise ConfigError(
            f"this process belongs to no job: {', '.join(missing)} not set.",
            "it was not started by torchrun",
            "torchrun --nproc-per-node 8 -m hpt wide run.toml, or your script in its place; "
            "--nproc-per-node 1 makes a job of one",
        )
    own_device = _own_device(device, 0)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own_device.type == "cuda" else "gloo")
    yield own_device
    # Not after an error: the others may never come to it.
    dist.destroy_process_group()


def _own_device(asked, default):
    kind = pick_device(asked).type
    if kind == "mps":
        raise ConfigError(
            'device "mps" has no collectives.', "Apple's GPUs come one a machine", 'device="cpu"'
        )
    if kind == "cpu":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", default))
    gpus = torch.cuda.device_count()
    if local >= gpus:
        raise ConfigError(
            f"process {local} of this machine sees {gpus} GPUs.",
            "more processes than GPUs, or a scheduler that gives each process one GPU alone",
            "torchrun --nproc-per-node gpu, started once a machine with all its GPUs visible",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def from_first(value: Any) -> Any:
    """What the first process gives, in every process; an exception is raised in every process."""
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    if isinstance(shared[0], Exception):
        raise shared[0]
    return shared[0]


def same_everywhere(value: Any) -> bool:
    """Whether all processes give the same value; the answer is the same in all."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return all(v == values[0] for v in values)


def save_checkpoint(run: Run, folder: Path) -> None:
    """Write weights, moments, losses and step; then remove what was in the folder before."""
    new = folder / f"step-{run.step}"
    dcp.save(_state(run)[0], checkpoint_id=new)
    if dist.get_rank() == 0:
        for old in folder.iterdir():
            if old != new:
                shutil.rmtree(old)


def resume_checkpoint(run: Run, folder: Path) -> bool:
    """Bring a new run to the state that it was last saved in; whether it was."""
    # The index is written last, under another name first: without it a checkpoint is incomplete.
    whole = folder.glob("step-*/.metadata")
    steps = (int(index.parent.name.removeprefix("step-")) for index in whole)
    step = from_first(max(steps, default=None))
    if step is None:
        return False
    state, optimizer = _state(run)
    dcp.load(state, checkpoint_id=folder / f"step-{step}")
    set_state_dict(run.model, run.optimizer, model_state_dict=state["model"], optim_state_dict=optimizer)
    run.step = step
    run.taken[:] = step
    return True


def _state(run):
    """The tensors that a checkpoint holds, and the optimizer's state dict, whose tensors are among
    them."""
    model, optimizer = get_state_dict(run.model, run.optimizer)
    state = {
        "model": model,
        "moments": optimizer["state"],
        # In the memory of the run's own.
        "losses": torch.from_numpy(run.losses_RxS)[0],
        "seconds": torch.from_numpy(run.seconds)[0],
    }
    return state, optimizer
