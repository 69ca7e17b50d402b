"""Many runs trained at once: those that differ only in learning rate, weight decay or seed, stacked
in one program.

The step of a small model spends its time launching operations, not computing; a stack launches each
operation once for all its members.

Shapes: R members, B sequences of a batch, T tokens of context, S steps, P entries of a group of
parameters.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from hpt.data.batches import Batch, TokenSource
from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import ConfigError
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.training.cuda_graph import CapturedGraph
from hpt.training.loop import Run, build_model, cross_entropy, parts, rate_groups, raw_model, roles_of
from hpt.training.memory import SHARE, available_bytes, step_bytes
from hpt.training.optimizers import stacked_optimizer_of


def train_stacked(
    configs: Sequence[RunConfig], *, data: TokenSource | None = None, device: str = "auto"
) -> list[RunResult]:
    """Train runs that differ only in learning rate, weight decay or seed, as many at once as fit
    into memory.

    Parameters
    ----------
    configs: what to train.
    data, device: as in :func:`hpt.train`.

    Returns
    -------
    The results in the order of ``configs``. Each equals that of :func:`hpt.train` to rounding, not
    to the bit, and its ``stacked`` says how many runs were trained at once. ``seconds`` is a run's
    share of the stack's time: an equal part of each stretch that it was in; ``tokens_per_second``
    is over that share, so it is the stack's pace.

    Raises
    ------
    ConfigError: where the configurations differ in anything else; names the field.
    """
    if not configs:
        return []
    check_stackable(configs)
    data = data or load(configs[0].data)
    chosen = pick_device(device)
    chunks = even_chunks(configs, members_that_fit(configs[0], chosen))
    return [result for chunk in chunks for result in _train_chunk(chunk, data, chosen)]


def _train_chunk(configs, data, device):
    """Train a stack; in halves where the estimate of its memory was too low."""
    stack = Stack(configs, data, device)
    try:
        return stack.finish()
    except torch.OutOfMemoryError:
        if len(configs) == 1:
            raise
    finally:
        # Whatever a traceback goes on holding.
        stack.graph.release()
    # Out here, where nothing holds the failed stack's memory any more.
    halves = even_chunks(configs, math.ceil(len(configs) / 2))
    return [result for half in halves for result in _train_chunk(half, data, device)]


def members_that_fit(config: RunConfig, device: torch.device, workers: int = 1) -> int:
    """How many runs of this shape one process trains at once, at least 1.

    Parameters
    ----------
    config: any one of the runs; only its shapes matter.
    device: where they train.
    workers: how many processes share the device's memory.
    """
    member_bytes = step_bytes(config, device, stacked_step)
    return max(1, int(SHARE * available_bytes(device) / workers / member_bytes))


def stacked_step(config: RunConfig, device: torch.device) -> None:
    """A step of a stack of one."""
    stack = Stack([config], None, device)
    stack.optimizer_step(*stack.first_inputs())


def stack_key(config: RunConfig) -> RunConfig:
    """The configuration without what may differ in a stack: runs with equal keys stack."""
    train = dataclasses.replace(config.train, lr=1.0, weight_decay=0.0, dose=None)
    return dataclasses.replace(config, seed=0, train=train)


def check_stackable(configs: Sequence[RunConfig]) -> None:
    """Refuse configurations that differ in more than learning rate, weight decay and seed
    (ConfigError)."""
    first, *others = (pd.json_normalize(stack_key(c).to_dict()).iloc[0] for c in configs)
    for other in others:
        for name, value in other.items():
            if value != first[name]:
                raise ConfigError(
                    f"stacked runs differ in {name}: {first[name]!r} and {value!r}.",
                    "a stack's runs may differ in train.lr, train.weight_decay and seed alone",
                    "hpt.train for each, or hpt.Study, which stacks what goes together",
                )


def even_chunks(configs: Sequence[RunConfig], most: int) -> list[tuple[RunConfig, ...]]:
    """The configurations in as few parts as hold at most ``most`` each, all of one size or one
    less."""
    count = math.ceil(len(configs) / most)
    bounds = [i * len(configs) // count for i in range(count + 1)]
    return [tuple(configs[start:end]) for start, end in itertools.pairwise(bounds)]


class Stack(Run):
    """Runs under way together: their weights, optimizer, and the losses of the steps taken.

    The rest go on without a member that has diverged.

    Parameters
    ----------
    configs: equal but for learning rate, weight decay and seed.
    data: the tokens; None for what never reads any.
    device: where they train.
    by_role: as in :class:`hpt.training.adamw.StackedAdamW`.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        data: TokenSource | None,
        device: torch.device,
        by_role: bool = False,
    ):
        super().__init__(configs, data, device)
        config_of = {config.seed: config for config in configs}
        starts = {seed: build_model(config) for seed, config in config_of.items()}
        members = [starts[config.seed] for config in configs]
        rates = list(map(rate_groups, members, configs))
        make = stacked_optimizer_of(self.config.train)
        self.optimizer = make(members, rates, self.config.train, self.steps, device, by_role)
        self.roles = roles_of(members[0], rates[0])
        # For its forward alone; the weights are the optimizer's.
        with torch.device("meta"):
            self.model = raw_model(self.config)
        self.constants = {name: x.to(device) for name, x in members[0].named_buffers()}
        self.graph = CapturedGraph(device)

    def weights(self) -> dict[str, Tensor]:
        """The parameters by name, behind the members' axis."""
        return {name: x for group in self.optimizer.groups for name, x in group.named_in_all().items()}

    def forward_of(self):
        """A model whose forward may be called with any weights, and its buffers."""
        return self.model, self.constants

    def read(self, step: int) -> Batch:
        """Inputs and targets, RxBxT, on the CPU: members of one seed see the same."""
        seeds = [self.configs[i].seed for i in self.alive]
        batches = {seed: self.batch(seed, step) for seed in set(seeds)}
        sides = zip(*(batches[seed] for seed in seeds), strict=True)
        return tuple(map(torch.stack, sides))

    def first_inputs(self):
        """What :meth:`optimizer_step` takes, of a stack of one: tokens that are all 0."""
        c = self.config
        shape = (1, c.train.batch_size, c.model.context)
        ids_RxBxT = torch.zeros(shape, dtype=torch.int64, device=self.device)
        return ids_RxBxT, ids_RxBxT.clone(), self.optimizer.scalars_Sx3[0]

    def take_step(self, step, inputs_RxBxT, targets_RxBxT) -> Tensor:
        """One step of all members; returns their losses before it, (R,)."""
        scalars_3 = self.optimizer.scalars_Sx3[step]
        losses_R = self.graph.run(self.optimizer_step, inputs_RxBxT, targets_RxBxT, scalars_3)
        # A captured step writes its losses into the same memory each time.
        return losses_R.clone()

    def optimizer_step(self, inputs_RxBxT, targets_RxBxT, scalars_3) -> Tensor:
        """:meth:`take_step` on tensors alone, all of which keep their place in memory."""
        c = self.config.train
        grads, losses_R = self.gradients(inputs_RxBxT, targets_RxBxT)
        if c.clip is not None:
            # As torch's clip_grad_norm_.
            norm_Rx1 = sum(g.square().sum(1, keepdim=True) for g in grads).sqrt()
            grads = [g * (c.clip / (norm_Rx1 + 1e-6)).clamp(max=1) for g in grads]
        self.optimizer.step(grads, scalars_3)
        return losses_R

    def gradients(self, inputs_RxBxT, targets_RxBxT):
        """Gradients RxP of each group, and the losses (R,)."""
        weights = [weight_RxP.requires_grad_() for weight_RxP in self.optimizer.weights]
        grads = None
        total_R = torch.zeros(len(inputs_RxBxT), device=self.device)
        for x, y in parts(inputs_RxBxT, targets_RxBxT, self.sequences, axis=1):
            share = x.shape[1] / inputs_RxBxT.shape[1]
            losses_R = self.each_member(self.forward, weights, x, y) * share
            # No loss depends on another member's weights. (torch.func.grad would hold three times
            # the memory.)
            grads = _sums(grads, torch.autograd.grad(losses_R.sum(), weights))
            total_R += losses_R.detach()
        return grads, total_R

    def each_member(self, loss, *tensors):
        """``loss`` of each member's share of tensors whose first axis are the members, (R,)."""
        return vmap(loss)(*tensors)

    def forward(self, rows, inputs_BxT, targets_BxT=None):
        """The model's, of one member; ``rows`` are its of the groups' weights."""
        named = self.constants | self.optimizer.named(rows)
        return functional_call(self.model, named, (inputs_BxT, targets_BxT, self.dtype))

    def held_out_loss(self, inputs_BxT, targets_BxT) -> Tensor:
        """Each member's mean loss (R,), on the same sequences for all."""

        def of_member(rows):
            return cross_entropy(self.forward(rows, inputs_BxT), targets_BxT)

        return self.each_member(of_member, self.optimizer.weights)

    def keep(self, good_R: np.ndarray) -> None:
        """Go on with these members alone."""
        self.optimizer.keep(torch.from_numpy(good_R).to(self.device))
        # The shapes of a captured step are fixed.
        self.graph = CapturedGraph(self.device)


def _sums(grads, more):
    """Gradients and those of a further micro-batch, in the memory of the first."""
    if grads is None:
        return more
    return [grad.add_(other) for grad, other in zip(grads, more, strict=True)]
