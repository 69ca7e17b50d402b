"""What a study costs before it starts: FLOPs, and seconds on this machine."""

from __future__ import annotations

import dataclasses
import functools
import time

import torch

from hpt.device import pick_device, pick_precision
from hpt.groups import param_groups
from hpt.model import ModelConfig, flops_per_token, parameter_count
from hpt.run import RunConfig
from hpt.training import backward, build_model

#: A step with more FLOPs than this is not tried, but reckoned from a smaller batch or a matmul.
MOST_CALIBRATION_FLOPS = 5e11
#: What share of a large matmul's speed a training step of a large model reaches.
STEP_SHARE_OF_MATMUL = 0.4


@functools.lru_cache(maxsize=1024)
def _sizes(model: ModelConfig) -> tuple[float, int]:
    return flops_per_token(model), parameter_count(model)


def run_flops(config: RunConfig) -> float:
    """Training FLOPs of a run: 6 per matmul weight and token, and those of attention."""
    per_token, parameters = _sizes(config.model)
    c = config.train
    return per_token * c.step_count(parameters, config.model.context) * c.batch_size * config.model.context


def run_seconds(config: RunConfig, device: str = "auto") -> float:
    """Estimated seconds of a run on this machine: a few steps are timed, once per shape."""
    steps = config.train.step_count(_sizes(config.model)[1], config.model.context)
    # The learning rate and the seed cost nothing, so all runs of one shape share one calibration.
    shape = dataclasses.replace(config, seed=0, train=dataclasses.replace(
        config.train, lr=1e-3, weight_decay=0.0, steps=1, warmup_steps=0, tokens_per_parameter=None))
    forward_only = config.train.validation_sequences / (3 * config.train.batch_size)
    return (steps + forward_only) * _step_seconds(shape, device)


@functools.lru_cache(maxsize=256)
def _step_seconds(config: RunConfig, device: str) -> float:
    """Seconds of one training step with one CPU thread, or on the accelerator."""
    place = pick_device(device)
    dtype, _ = pick_precision(config.train.precision, place)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker process
    try:
        if run_flops(config) > MOST_CALIBRATION_FLOPS:
            return run_flops(config) / (STEP_SHARE_OF_MATMUL * _matmul_flops_per_second(place, dtype))
        model = build_model(config).to(place)
        optimizer = torch.optim.AdamW(param_groups(model, config.parameterization, lr=1e-3), fused=place.type != "mps")
        ids_BxT = torch.zeros(config.train.batch_size, config.model.context, dtype=torch.int64, device=place)

        def step() -> float:
            start = time.perf_counter()
            backward(model, ids_BxT, ids_BxT, dtype, None)
            optimizer.step()
            _wait(place)
            return time.perf_counter() - start

        step()
        return min(step() for _ in range(3))
    finally:
        torch.set_num_threads(threads)


def _matmul_flops_per_second(place: torch.device, dtype: torch.dtype, n: int = 2048) -> float:
    a = torch.randn(n, n, device=place, dtype=dtype)
    a @ a
    _wait(place)
    start = time.perf_counter()
    a @ a
    _wait(place)
    return 2 * n**3 / (time.perf_counter() - start)


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def in_words(seconds: float) -> str:
    """A duration as people say it: "40 s", "3 min", "5.2 h", "12 days"."""
    for size, unit, digits in ((172800, "days", 0), (5400, "h", 1), (90, "min", 0)):
        if seconds >= size:
            per = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{seconds / per:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
