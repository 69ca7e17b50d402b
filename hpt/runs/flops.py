"""FLOPs and steps of a run: what its cost is reckoned from."""

from __future__ import annotations

from hpt.model.transformer import flops_per_token, parameter_count
from hpt.runs.run_config import RunConfig


def run_steps(config: RunConfig) -> int:
    """Optimizer steps of a run."""
    return config.train.step_count(parameter_count(config.model), config.model.context)


def run_flops(config: RunConfig) -> float:
    """Training FLOPs of a run: 6 per matmul weight and token, and those of attention."""
    return flops_per_token(config.model) * run_steps(config) * config.train.batch_size * config.model.context
