"""Many runs trained at once: those that differ only in learning rate, weight decay or seed, stacked
in one program.

The step of a small model spends its time launching operations, not computing; a stack launches each
operation once for all its members.

Shapes: R members, B batch, T context, S steps, P entries of a group of parameters.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from hpt.data.batches import TokenSource, feed
from hpt.data.source import load
from hpt.device import flushed_denormals, pick_device, pick_precision
from hpt.errors import ConfigError
from hpt.model.transformer import parameter_count
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.runs.train_config import lr_factor
from hpt.training.adamw import stacked_groups, step_scalars
from hpt.training.cuda_graph import Captured
from hpt.training.loop import STEPS_PER_CHECK, build_model, record
from hpt.training.memory import members_that_fit


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
    check_stackable(configs)
    if not configs:
        return []
    data, place, results = data or load(configs[0].data), pick_device(device), []
    for chunk in even_chunks(configs, members_that_fit(configs[0], place)):
        results += _train_chunk(chunk, data, place)
    return results


def _train_chunk(
    configs: Sequence[RunConfig], data: TokenSource, place: torch.device
) -> list[RunResult]:
    """Train a stack; in halves where the estimate of its memory was too low."""
    try:
        stack = Stack(configs, data, place)
        stack.train()
        return stack.results()
    except torch.OutOfMemoryError:
        if len(configs) == 1:
            raise
    # Out here, where nothing holds the failed stack's memory any more.
    stack, halves = None, even_chunks(configs, -(-len(configs) // 2))
    return [result for half in halves for result in _train_chunk(half, data, place)]


def stack_key(config: RunConfig) -> RunConfig:
    """The configuration without what may differ in a stack: runs with equal keys stack."""
    return dataclasses.replace(
        config, seed=0, train=dataclasses.replace(config.train, lr=1.0, weight_decay=0.0)
    )


def check_stackable(configs: Sequence[RunConfig]) -> None:
    """Refuse configurations that differ in more than learning rate, weight decay and seed
    (ConfigError)."""
    for other in configs[1:]:
        if found := _first_difference(stack_key(configs[0]).to_dict(), stack_key(other).to_dict()):
            name, a, b = found
            raise ConfigError(
                f"stacked runs differ in {name}: {a!r} and {b!r}.",
                "a stack's runs may differ in train.lr, train.weight_decay and seed alone",
                "hpt.train for each, or hpt.Study, which stacks what goes together",
            )


def _first_difference(a: dict, b: dict, path: str = "") -> tuple | None:
    for key in a:
        if isinstance(a[key], dict) and isinstance(b[key], dict):
            if found := _first_difference(a[key], b[key], f"{path}{key}."):
                return found
        elif a[key] != b[key]:
            return f"{path}{key}", a[key], b[key]
    return None


def even_chunks(configs: Sequence[RunConfig], most: int) -> Iterator[tuple[RunConfig, ...]]:
    """The configurations in as few parts as hold at most ``most`` each, all of one size or one
    less."""
    parts = -(-len(configs) // most)
    bounds = [i * len(configs) // parts for i in range(parts + 1)]
    return (tuple(configs[a:b]) for a, b in itertools.pairwise(bounds))


class Stack:
    """Runs under way together: weights, optimizer, and the losses of the steps taken.

    A member whose loss becomes NaN or passes the bound is dropped at the next look; the rest go on
    without it.

    Parameters
    ----------
    configs: equal but for learning rate, weight decay and seed.
    data: the tokens.
    place: the device.
    by_role: as in :func:`hpt.training.adamw.stacked_groups`.

    Attributes
    ----------
    steps, step: how many steps the runs have, and how many are taken.
    alive: indices of the members that have not diverged, (R,).
    """

    validation_batches = 1  # that go through the model at once

    def __init__(
        self,
        configs: Sequence[RunConfig],
        data: TokenSource,
        place: torch.device,
        by_role: bool = False,
    ):
        self.configs, self.config, self.data, self.place = configs, configs[0], data, place
        c = self.config.train
        self.dtype, self.precision_reason = pick_precision(c.precision, place)
        self.parameters = parameter_count(self.config.model)
        self.steps = c.step_count(self.parameters, self.config.model.context)
        self.bound = self.config.loss_bound
        starts = {
            seed: build_model(dataclasses.replace(self.config, seed=seed))
            for seed in {r.seed for r in configs}
        }
        self.groups = stacked_groups(configs, starts, place, by_role)
        self.step = 0
        self.model = starts[self.config.seed].to(
            place
        )  # for its forward; the weights are the groups'
        self.scalars_Sx3 = torch.tensor(
            [
                step_scalars(lr_factor(c, step, self.steps), step, c.beta1, c.beta2)
                for step in range(self.steps)
            ],
            device=place,
        )
        self.alive = np.arange(len(configs))
        self.taken, self.seconds = np.zeros(len(configs), int), np.zeros(len(configs))
        self.losses_RxS = np.full((len(configs), self.steps), np.nan, np.float32)
        self.take_step = Captured(self._step, place)

    def train(self) -> None:
        """Take the steps that are left, each member's until it diverges."""
        self.advance(self.steps)

    @flushed_denormals()
    def advance(self, until: int) -> None:
        """Take the steps up to, not with, step ``until``."""
        start = time.perf_counter()
        while self.step < until and len(self.alive):
            steps = range(self.step, min(self.step + STEPS_PER_CHECK, until))
            # A captured step writes its losses into the same memory each time.
            losses = [
                self.take_step(*batch, self.scalars_Sx3[step]).clone()
                for step, batch in zip(steps, feed(self._read, steps, self.place), strict=True)
            ]
            losses_RxK = torch.stack(losses, 1).float().cpu().numpy()
            self.losses_RxS[self.alive, steps.start : steps.stop] = losses_RxK
            bad_RxK = ~(losses_RxK <= self.bound)
            bad_R = bad_RxK.any(1)
            self.taken[self.alive] = np.where(
                bad_R, steps.start + bad_RxK.argmax(1) + 1, steps.stop
            )
            self.step, now = steps.stop, time.perf_counter()
            self.seconds[self.alive] += (now - start) / len(self.alive)
            start = now
            if bad_R.any():
                self._drop(bad_R)

    def _drop(self, bad_R: np.ndarray) -> None:
        self.alive = self.alive[~bad_R]
        for group in self.groups:
            group.keep(torch.from_numpy(~bad_R).to(self.place))
        self.take_step = Captured(self._step, self.place)  # a captured step's shapes are fixed

    def _read(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets, RxBxT, on the CPU: members of one seed see the same."""
        seeds = [self.configs[i].seed for i in self.alive]
        shape = self.config.train.batch_size, self.config.model.context
        batches = {seed: self.data.batch(seed, step, *shape) for seed in set(seeds)}
        inputs_RxBxT, targets_RxBxT = (
            torch.stack([batches[seed][i] for seed in seeds]) for i in (0, 1)
        )
        return inputs_RxBxT, targets_RxBxT

    def _step(self, inputs_RxBxT: Tensor, targets_RxBxT: Tensor, scalars_3: Tensor) -> Tensor:
        """One optimizer step of all members; returns their losses before it, (R,)."""
        c = self.config.train
        size, weights = (
            c.micro_batch_size or c.batch_size,
            [w.requires_grad_() for w in self._weights()],
        )
        grads, losses_R = None, torch.zeros(len(inputs_RxBxT), device=self.place)
        for x, y in zip(inputs_RxBxT.split(size, 1), targets_RxBxT.split(size, 1), strict=True):
            share_R = self._mean_losses(weights, x, y) * (x.shape[1] / c.batch_size)
            losses_R += share_R.detach()
            # No loss depends on another member's weights. (torch.func.grad would hold three times
            # the memory.)
            more = torch.autograd.grad(share_R.sum(), weights)
            grads = more if grads is None else [a.add_(b) for a, b in zip(grads, more, strict=True)]
        if c.clip is not None:
            norm_Rx1 = sum(g.square().sum(1, keepdim=True) for g in grads).sqrt()
            grads = [
                g * (c.clip / (norm_Rx1 + 1e-6)).clamp(max=1) for g in grads
            ]  # as torch's clip_grad_norm_
        for group, grad_RxP in zip(self.groups, grads, strict=True):
            group.step(grad_RxP, c.beta1, c.beta2, scalars_3)
        return losses_R

    def _weights(self) -> tuple[Tensor, ...]:
        return tuple(group.weight_RxP for group in self.groups)

    def _mean_losses(self, weights: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Each member's mean loss (R,), on its own tokens RxBxT or on the same tokens BxT for
        all."""
        own = 0 if inputs.ndim == 3 else None
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no rule for stacks
            return vmap(self._mean_loss, in_dims=(0, own, own))(tuple(weights), inputs, targets)

    def _mean_loss(
        self, weights: tuple[Tensor, ...], inputs_BxT: Tensor, targets_BxT: Tensor
    ) -> Tensor:
        """One member's; ``weights`` are its rows of the groups'."""
        named = {
            k: v
            for group, row_P in zip(self.groups, weights, strict=True)
            for k, v in group.named(row_P).items()
        }
        return functional_call(self.model, named, (inputs_BxT, targets_BxT, self.dtype))

    @torch.no_grad()
    def _validation_losses(self) -> np.ndarray:
        """Mean loss of each member left on the fixed held-out sequences, (R,)."""
        c = self.config.train
        inputs_NxT, targets_NxT = self.data.validation(
            c.validation_sequences, self.config.model.context
        )
        size, total_R = self.validation_batches * (c.micro_batch_size or c.batch_size), 0.0
        for x, y in zip(inputs_NxT.split(size), targets_NxT.split(size), strict=True):
            total_R += self._mean_losses(
                self._weights(), x.to(self.place), y.to(self.place)
            ).double() * len(x)
        return total_R.cpu().numpy() / len(inputs_NxT)

    @flushed_denormals()
    def results(self) -> list[RunResult]:
        """The members' records, once all steps are taken; takes the validation losses."""
        start, val_loss, validation_seconds = (
            time.perf_counter(),
            np.full(len(self.configs), np.inf),
            0.0,
        )
        if len(self.alive):
            val_loss[self.alive] = self._validation_losses()
            validation_seconds = (time.perf_counter() - start) / len(self.alive)
        return [
            record(
                self,
                config,
                self.losses_RxS[i, : self.taken[i]],
                float(val_loss[i]),
                float(self.seconds[i]),
                validation_seconds if i in self.alive else 0.0,
                stacked=len(self.configs),
            )
            for i, config in enumerate(self.configs)
        ]
