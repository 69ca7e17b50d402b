"""Many runs trained at once: those that differ only in learning rate, weight decay, seed or in what a
parameterization says of these and of initial weights, stacked in one program.

The step of a small model spends its time launching operations, not computing; a stack launches each
operation once for all its members.

Shapes: R members, B sequences of a batch, T tokens of context, S steps, P entries of a group of
parameters.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import pandas as pd
import torch

from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import ConfigError
from hpt.parameterization.named_rules import rule
from hpt.parameterization.rules import ONE, ROLES
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.training.loop import Training
from hpt.training.memory import SHARE, available_bytes, step_bytes


def train_stacked(
    configs: Sequence[RunConfig],
    *,
    data: TokenSource | None = None,
    device: str = "auto",
    compiled: bool = False,
) -> list[RunResult]:
    """Train runs that differ only in learning rate, weight decay, seed or parameterization, as many at once
    as fit into memory.

    Parameters
    ----------
    configs: what to train.
    data, device: as in :func:`hpt.train`.
    compiled: whether their step is one program, see :func:`hpt.train_compiled`.

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
    return [result for chunk in chunks for result in _train_chunk(chunk, data, chosen, compiled)]


def _train_chunk(configs, data, device, compiled):
    """Train a stack; in halves where the estimate of its memory was too low."""
    try:
        with contextlib.closing(Training(configs, data, device, compiled, stacked=True)) as run:
            return run.finish()
    except torch.OutOfMemoryError:
        if len(configs) == 1:
            raise
    # Out here, where nothing holds the failed stack's memory any more.
    halves = even_chunks(configs, math.ceil(len(configs) / 2))
    return [result for half in halves for result in _train_chunk(half, data, device, compiled)]


def members_that_fit(config: RunConfig, device: torch.device, workers: int = 1) -> int:
    """How many runs of this shape one process trains at once, at least 1.

    Parameters
    ----------
    config: any one of the runs; only its shapes matter.
    device: where they train.
    workers: how many processes share the device's memory.
    """
    member_bytes = step_bytes(config, device, stacked=True)
    return max(1, int(SHARE * available_bytes(device) / workers / member_bytes))


def stack_key(config: RunConfig) -> RunConfig:
    """The configuration without what may differ in a stack: runs with equal keys stack.

    Of its parameterization there stay the laws of outputs and of Adam's ε, and the attention's scale.
    """
    train = dataclasses.replace(config.train, lr=1.0, weight_decay=0.0, dose=None)
    shared = _beside_starts_and_rates(config.parameterization, config.model.tie_readout)
    return dataclasses.replace(config, seed=0, train=train, parameterization=shared)


@functools.cache
def _beside_starts_and_rates(parameterization, tied):
    """What a parameterization says beside initial weights, rates and weight decays, as a rule."""
    laws = rule(parameterization)
    # The std of a tied readout is a factor on the logits.
    roles = set(ROLES) - {"readout"} if tied else ROLES
    shared = {role: dataclasses.replace(getattr(laws, role), std=ONE, lr=ONE, decay=ONE) for role in roles}
    return dataclasses.replace(laws, name="any", lr_is="hidden", **shared)


def check_stackable(configs: Sequence[RunConfig]) -> None:
    """Refuse configurations that differ in more than may differ in a stack (ConfigError)."""
    first, *others = (pd.json_normalize(stack_key(c).to_dict()).iloc[0] for c in configs)
    for other in others:
        for name, value in other.items():
            if value != first[name]:
                raise ConfigError(
                    f"stacked runs differ in {name}: {first[name]!r} and {value!r}.",
                    "a stack's runs may differ in rates, weight decay, seed and initial weights alone",
                    "hpt.train for each, or hpt.Study, which stacks what goes together",
                )


def even_chunks(configs: Sequence[RunConfig], most: int) -> list[tuple[RunConfig, ...]]:
    """The configurations in as few parts as hold at most ``most`` each, all of one size or one
    less."""
    count = math.ceil(len(configs) / most)
    bounds = [i * len(configs) // count for i in range(count + 1)]
    return [tuple(configs[start:end]) for start, end in itertools.pairwise(bounds)]
