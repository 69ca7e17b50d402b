"""Memory that a training step needs, counted without computing it.

Shapes: B sequences of a batch, T tokens of context.
"""

from __future__ import annotations

import dataclasses
import weakref

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpt.cache_folder import code_of, kept
from hpt.config import to_dict
from hpt.device import pick_precision
from hpt.runs.run_config import RunConfig
from hpt.training import loop, start
from hpt.training.optimizers import optimizer_of
from hpt.training.programs import STEP_CODE

#: What share of the free memory runs may take; the rest is for what the estimate does not see.
SHARE = 0.8


def step_bytes(config: RunConfig, device: torch.device, stacked: bool = False) -> int:
    """Bytes of tensors at the fullest moment of a run's training step: weights, gradients, the
    optimizer's state, activations.

    Counted once for a shape and kept in ``$HPT_CACHE_DIR/memory``. The step runs on tensors that
    have shapes and no content, so that neither memory nor time is spent; each tensor is counted
    from its making to its end. What a kernel takes for itself is not seen.

    Parameters
    ----------
    config, device: what is trained, and where.
    stacked: whether as a member of a stack, each of which takes as much.
    """
    # A third micro-batch takes no more than the second.
    most = 2 * (config.train.micro_batch_size or config.train.batch_size)
    c = dataclasses.replace(config.train, batch_size=min(config.train.batch_size, most))
    config = dataclasses.replace(config, train=c)
    depends_on = [
        to_dict(config.model),
        [c.optimizer, c.batch_size, c.micro_batch_size, c.clip],
        str(pick_precision(c.precision, device)[0]),
        device.type,
        stacked,
        torch.__version__,
        code_of(*STEP_CODE, loop, start),
    ]
    return kept("memory", depends_on, lambda: _most_bytes(config, device, stacked))


def _most_bytes(config, device, stacked):
    """Set a run up and take a step, on tensors without content."""
    with FakeTensorMode(), _LiveBytes() as counted:
        run = loop.Training([config], None, device, stacked=stacked)
        one_step = run.one_step
        if one_step.update is optimizer_of(config.train).eager_update:
            # It asks for values, and takes nothing for itself.
            one_step = dataclasses.replace(one_step, update=lambda *_: None)
        # Only what lives on from the start counts.
        counted.most = 0
        one_step(run.groups, *run.first_inputs())
    return counted.most


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside that are still alive, and the most there were at
    once."""

    def __init__(self):
        super().__init__()
        self.most = 0
        self._alive = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                self._count(tensor.untyped_storage())
        self.most = max(self.most, sum(self._alive.values()))
        return made

    def _count(self, storage):
        if storage._cdata not in self._alive:
            self._alive[storage._cdata] = storage.nbytes()
            weakref.finalize(storage, self._alive.pop, storage._cdata).atexit = False


def available_bytes(device: torch.device) -> int:
    """Free memory of the GPU, what torch keeps for itself included, or of the machine."""
    if device.type == "cuda":
        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_by_torch
    return psutil.virtual_memory().available
