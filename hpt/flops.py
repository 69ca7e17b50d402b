"""FLOPs and steps of a run: what its cost is reckoned from."""

from __future__ import annotations

import functools

from hpt.model import ModelConfig, flops_per_token, parameter_count
from hpt.run import RunConfig


@functools.lru_cache(maxsize=1024)
def _sizes(model: ModelConfig) -> tuple[float, int]:
    return flops_per_token(model), parameter_count(model)


def run_steps(config: RunConfig) -> int:
    """Optimizer steps of a run."""
    return config.train.step_count(_sizes(config.model)[1], config.model.context)


def run_flops(config: RunConfig) -> float:
    """Training FLOPs of a run: 6 per matmul weight and token, and those of attention."""
    return _sizes(config.model)[0] * run_steps(config) * config.train.batch_size * config.model.context
