"""One run on several processes, a GPU each: the numbers of one process, to rounding.

Shapes: B sequences of a process' slice of a batch, T tokens of context, K steps between two looks.
"""

from __future__ import annotations

import contextlib
import logging
import math
import operator
import shutil
from pathlib import Path
from typing import Literal

import filelock
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.errors import ConfigError, StoreError
from hpt.files import StrPath
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.runs.store import Store
from hpt.training.loop import Run
from hpt.training.optimizers import step_scalars
from hpt.training.process_group import (
    from_first,
    process_group,
    resume_checkpoint,
    same_everywhere,
    save_checkpoint,
)
from hpt.training.start import build_model, rate_groups
from hpt.training.step import cross_entropy, parts
from hpt.training.weights import role_of

Shard = Literal["ddp", "fsdp"]
#: How long a job waits for another that trains the same run: one that was killed may take a while to
#: die.
LOCK_SECONDS = 60

_log = logging.getLogger(__name__)


def train_wide(
    config: RunConfig,
    *,
    data: TokenSource | None = None,
    device: str = "auto",
    shard: Shard = "ddp",
    store: StrPath | Store | None = None,
    checkpoint: StrPath | None = None,
    every: int = 500,
) -> RunResult:
    """Train one model on all processes of a torchrun job; each of them calls this.

    Parameters
    ----------
    config, data: as in :func:`hpt.train`. Each process takes its slice of every batch;
        ``micro_batch_size`` counts the sequences that go through the model at once in one process.
    device: "auto", "cuda" (each process takes the GPU of its local rank; nccl) or "cpu" (gloo).
    shard: "ddp": every process holds the whole model. "fsdp": weights, gradients and moments are
        shared out (``fully_shard``), for models that one GPU does not hold.
    store: a folder of run records: a run that is there is not trained, and a new one is put there.
        The first process alone reads and writes it.
    checkpoint: a folder that all processes see, for the state of unfinished runs: the same call
        after an interruption goes on there, also with another number of processes. Once the record
        is stored it is removed.
    every: steps between checkpoints, and between lines of the log.

    Returns
    -------
    The result, in every process. Losses are those of one process to rounding; weights start from
    the same bits.

    Raises
    ------
    ConfigError: outside a torchrun job, where processes do not divide the batch, or differ in
        configuration or data.
    StoreError: where another job trains the same run.
    """
    if shard not in ("ddp", "fsdp") or every < 1:
        raise ConfigError(f"shard={shard!r}, every={every}.", remedy='shard="ddp" or "fsdp"; every=500')
    if config.train.optimizer != "adamw":
        raise ConfigError(
            f"optimizer={config.train.optimizer!r} has no step for a model that processes share.",
            remedy='optimizer="adamw", or hpt.train',
        )
    if config.train.diagnostics:
        raise ConfigError(
            f"diagnostics={config.train.diagnostics} cannot be had of a model that processes share.",
            remedy="diagnostics=0, or hpt.train",
        )
    # Before the processes wait for each other: text may have to be tokenized.
    data = data or load(config.data)
    run_id = config.run_id(data.fingerprint)
    with process_group(device) as own_device, contextlib.ExitStack() as locks:
        if not same_everywhere(run_id):
            raise ConfigError(
                f"the processes train different runs; this one {run_id}.",
                "machines differ in the configuration, or in the packages or files that are the data",
            )
        is_keeper = store is not None and dist.get_rank() == 0
        if is_keeper:
            store = Store.at(store)
        found = from_first(_lock_and_look(store, run_id, locks) if is_keeper else None)
        if found is not None:
            return found
        folder = None if checkpoint is None else Path(checkpoint) / run_id
        result = _train(config, data, own_device, shard, folder, every)
        if is_keeper:
            store.save(result)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        return result


def _lock_and_look(store, run_id, locks):
    """The record that is there, or None, or the error for a run that another job holds."""
    try:
        locks.enter_context(store.lock(run_id).acquire(timeout=LOCK_SECONDS))
    except filelock.Timeout:
        return StoreError(
            f"run {run_id} is being trained into {str(store.path)!r} by another job.",
            "",
            "the same command once that one has ended; it then finds the record",
        )
    return store.load(run_id)


def _train(config, data, device, shard, folder, every):
    """Take all steps, with checkpoints.

    The model ends with this function, before the group does: the last owner of a gloo group waits
    for its threads, and DDP would do so while it keeps Python's lock, which these threads may want.
    """
    run = WideTraining(config, data, device, shard)
    is_first = dist.get_rank() == 0
    if folder is not None and resume_checkpoint(run, folder) and is_first:
        _log.info("goes on from the checkpoint of step %d in %s", run.step, folder)
    while run.step < run.steps and not run.diverged:
        run.advance(min(run.step + every, run.steps))
        if is_first:
            loss = run.losses_RxS[0, run.step - 1]
            _log.info("step %d of %d, loss %.4f, %.0f s", run.step, run.steps, loss, *run.seconds)
        if folder is not None and run.step < run.steps and not run.diverged:
            save_checkpoint(run, folder)
    return run.results()[0]


class WideTraining(Run):
    """One process' part of a run; the attributes of :class:`hpt.training.loop.Run` agree in all
    processes.

    Raises
    ------
    ConfigError: where the processes do not divide the batch.
    """

    def __init__(self, config: RunConfig, data: TokenSource, device: torch.device, shard: Shard):
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()
        self.shard = shard
        batch_size = config.train.batch_size
        self.share = math.ceil(batch_size / self.ranks)
        if self.share * self.ranks != batch_size:
            raise ConfigError(
                f"batch_size={batch_size} is not a multiple of the {self.ranks} processes.",
                "every process takes an equal slice of the batch",
                f"batch_size={self.share * self.ranks}",
            )
        super().__init__([config], data, device)
        self.sequences = config.train.micro_batch_size or self.share
        self.model = self.placed(build_model(config))
        c = config.train
        groups = rate_groups(self.model, config)
        self.peaks = [(group["lr"], group["weight_decay"]) for group in groups]
        # Torch's own knows how to change the part of a parameter that this process holds.
        self.optimizer = torch.optim.AdamW(groups, betas=(c.beta1, c.beta2), eps=c.eps, fused=True)
        m = config.parameterization.multiplier(config.model.width)
        self.scalars = step_scalars(c, [role_of(group) for group in groups], self.steps, m)

    def placed(self, model):
        if self.shard == "ddp":
            wide = DistributedDataParallel(model.to(self.device), gradient_as_bucket_view=True)
            # Masks never change; which argument says so depends on torch's version.
            wide.broadcast_buffers = False
            return wide
        # What the forward would do to these matrices, done before they are gathered: the same
        # numbers, half the traffic, and no bf16 copy of them that waits for the backward.
        # Embeddings, norms, readout are the root's.
        policy = MixedPrecisionPolicy(self.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        mesh = init_device_mesh(self.device.type, (self.ranks,))
        for block in model.blocks:
            # They go to the device part by part.
            for branch in (block.attention, block.mlp):
                fully_shard(branch, mesh=mesh, mp_policy=policy)
        return fully_shard(model, mesh=mesh)

    def read(self, step):
        """Inputs and targets of a step, this process' slice of BxT, on the CPU."""
        inputs_BxT, targets_BxT = self.batch(self.config.seed, step)
        own = slice(self.rank * self.share, (self.rank + 1) * self.share)
        return inputs_BxT[own], targets_BxT[own]

    def take_step(self, step, inputs_BxT, targets_BxT) -> Tensor:
        """One step of the optimizer; returns the slice's loss before it."""
        self.model.zero_grad(set_to_none=True)
        # DDP averages over processes once a step; sharded gradients have no room for the whole and
        # go at once.
        alone = self.model.no_sync if self.shard == "ddp" else contextlib.nullcontext
        loss = backward(self.model, inputs_BxT, targets_BxT, self.dtype, self.sequences, alone)
        if self.config.train.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        scalars = self.scalars[step].tolist()
        for group, peaks, (*factors, _, _, _) in zip(
            self.optimizer.param_groups, self.peaks, scalars, strict=True
        ):
            group["lr"], group["weight_decay"] = map(operator.mul, peaks, factors)
        self.optimizer.step()
        return loss

    def held_out_loss(self, inputs_BxT, targets_BxT) -> Tensor:
        """The model's mean loss on these sequences."""
        return cross_entropy(self.model(inputs_BxT, dtype=self.dtype), targets_BxT)

    def settle(self, losses_K):
        """Losses of the slices become those of the batches, so that all processes take one
        decision."""
        dist.all_reduce(losses_K)
        return losses_K / self.ranks

    @torch.no_grad()
    def validation_loss(self):
        chunks = self.held_out()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for start in range(0, len(chunks), self.ranks):
            # Past the end too: all processes gather weights equally often.
            own = start + self.rank
            inputs_BxT, targets_BxT = chunks[own % len(chunks)]
            loss = self.held_out_loss(inputs_BxT, targets_BxT).double()
            if own < len(chunks):
                total += loss * len(inputs_BxT)
        dist.all_reduce(total)
        return total / self.config.train.validation_sequences

    def device_name(self):
        return f"{self.ranks} × {super().device_name()}, {self.shard}"


def backward(model, inputs_BxT, targets_BxT, dtype, size, unfinished) -> Tensor:
    """Add the gradients of the batch's mean loss, ``size`` sequences at a time, all but the last of
    them inside ``unfinished``; returns that loss, nats a token."""

    def add_gradients(x, y):
        loss = model(x, y, dtype) * (len(x) / len(inputs_BxT))
        loss.backward()
        return loss.detach()

    total = torch.zeros((), device=inputs_BxT.device)
    *first, last = parts(inputs_BxT, targets_BxT, size)
    with unfinished():
        for part in first:
            total += add_gradients(*part)
    return total + add_gradients(*last)
