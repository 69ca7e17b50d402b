"""Checkpoints of a run under way, so that a job that is stopped goes on where it was.

Written by torch.distributed.checkpoint: each process writes its own shards, and a job of another number of processes
can read them. Its index of the shards is a pickle: go on from folders of your own only.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from hpt.training.loop import Training
from hpt.training.process_group import from_first


def save(run: Training, folder: Path) -> None:
    """Write weights, moments, losses and step; then remove what was in the folder before."""
    new = folder / f"step-{run.step}"
    dcp.save(_state(run)[0], checkpoint_id=new)
    if dist.get_rank() == 0:
        for old in folder.iterdir():
            if old != new:
                shutil.rmtree(old)


def resume(run: Training, folder: Path) -> bool:
    """Bring a new run to the state that it was last saved in; whether it was."""
    # The index is written last, under another name first: without it a checkpoint is incomplete.
    steps = [int(index.parent.name.removeprefix("step-")) for index in folder.glob("step-*/.metadata")]
    step = from_first(max(steps, default=None))
    if step is None:
        return False
    state, optimizer = _state(run)
    dcp.load(state, checkpoint_id=folder / f"step-{step}")
    set_state_dict(run.model, run.optimizer, model_state_dict=state["model"], optim_state_dict=optimizer)
    run.step, run.seconds = step, float(state["seconds"])
    return True


def _state(run: Training) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors that a checkpoint holds, and the optimizer's state dict, whose tensors are among them."""
    model, optimizer = get_state_dict(run.model, run.optimizer)
    state = {"model": model, "moments": optimizer["state"], "losses": run.losses,
             "seconds": torch.tensor(run.seconds, dtype=torch.float64)}
    return state, optimizer
