"""Before the first step: what could not end is refused, the model gets its first weights, and its
parameters their rates.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hpt.data.batches import TokenSource
from hpt.device import total_bytes
from hpt.errors import ConfigError
from hpt.model.transformer import Transformer, parameter_count
from hpt.parameterization.groups import init_weights, param_groups
from hpt.parameterization.optimizers import is_muon
from hpt.runs.run_config import RunConfig, run_decay, run_steps
from hpt.training.optimizers import optimizer_of


def check_start(config: RunConfig, data: TokenSource, device: torch.device) -> None:
    """Refuse what could not end, before it starts: a text that is too short (DataError), sizes beyond the
    device's whole memory (ConfigError)."""
    data.check(config.train.validation_sequences, config.model.context)
    memory = total_bytes(device)
    # Of a job of several processes each holds a part.
    if least_bytes(config) <= memory or dist.is_initialized():
        return
    fitting = config
    while least_bytes(fitting) > memory and fitting.model.width > config.model.d_head:
        heads = fitting.model.heads // 2
        narrower = dataclasses.replace(config.model, width=heads * config.model.d_head, kv_heads=None)
        fitting = dataclasses.replace(config, model=narrower)
    remedy = "fewer sequences, validation_sequences or steps, or a smaller vocabulary"
    if least_bytes(fitting) <= memory:
        remedy = f"width={fitting.model.width}, which would fit; or {remedy}"
    needed = f"{least_bytes(config) / 1e9:,.1f} GB, and the {device.type} has {memory / 1e9:,.1f} GB"
    raise ConfigError(
        f"a run of width {config.model.width}, depth {config.model.depth} and batch size "
        f"{config.train.batch_size} takes at least {needed}.",
        "sizes for a larger machine",
        remedy,
    )


def least_bytes(config: RunConfig) -> float:
    """What a run certainly needs: weights, gradients and the optimizer's state, what each block keeps of a
    micro-batch, tokens and losses."""
    c = config.train
    model = config.model
    weights = (8 + 4 * optimizer_of(c).moments) * parameter_count(model)
    activations = (
        2.0
        * min(c.micro_batch_size or c.batch_size, c.batch_size)
        * model.context
        * model.width
        * model.depth
    )
    tokens = 8.0 * model.context * (c.batch_size + c.validation_sequences)
    return weights + activations + tokens + 4.0 * run_steps(config)


def build_model(config: RunConfig) -> Transformer:
    """The run's model on the CPU, with its initial weights; they depend on the seed, not on the
    device."""
    with _Undrawn():
        model = raw_model(config)
    generator = torch.Generator().manual_seed(config.seed)
    init_weights(model, config.parameterization, generator=generator, forward="absorb")
    return model


class _Undrawn(TorchFunctionMode):
    """Inside, layers are made without numbers, which are soon drawn anew: of 800 million parameters that
    saves 17 of 23 s."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if function in (Tensor.normal_, nn.init.kaiming_uniform_):
            return [*args, *given.values()][0]
        return function(*args, **given)


def raw_model(config: RunConfig) -> Transformer:
    """The run's model, whose weights the parameterization has yet to draw."""
    c = config.model
    rule = config.parameterization
    multiplier = 1.0
    if c.tie_readout:
        # A tied readout starts at the embedding's std 1; this gives its logits the untied size.
        readout = rule.scales("readout", c.width, rule.multiplier(c.width))
        multiplier = readout.init_std * readout.multiplier
    # Heads are of one size at every width, the base model's included.
    return Transformer(c, rule.attention_scale(c.d_head, c.d_head), multiplier)


def rate_groups(model: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    """The run's parameters with their learning rates and weight decays."""
    c = config.train
    rates = optimizer_of(c).rates
    return param_groups(
        model,
        config.parameterization,
        lr=c.lr,
        weight_decay=run_decay(config),
        decay=c.decay,
        decay_on=c.decay_on,
        forward="absorb",
        eps=c.eps,
        optimizer=rates,
        rest_lr=c.lr * c.rest_lr_ratio if is_muon(rates) else None,
    )
