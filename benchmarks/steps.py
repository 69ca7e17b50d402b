"""One training step in a worker: its time beside that of its matmuls, the floor that memory sets,
and its profile."""

from __future__ import annotations

import statistics
import time
from collections import Counter

import pandas as pd
import psutil
import torch
import torch._inductor.config

from hpt.data.source import load
from hpt.model.transformer import ModelConfig, parameter_count
from hpt.runs.run_config import RunConfig
from hpt.training.loop import Training

CPU = torch.device("cpu")
#: Parts of a compiled step by what the names of their kernels contain; the first that fits.
PARTS = {
    "AdamW": "lerp",
    "GELU": "abs_add|as_strided_mul",
    "cross-entropy": "index_put|hpt::softmax|aten::_softmax",
    "matmuls": "mm_out",
    "embeddings' gradient": "embedding_dense",
    "attention's softmax": "amax|softmax",
    "norms and residual sums": "layer_norm",
}


def matmul_calls(c: ModelConfig, sequences: int, dtype: torch.dtype):
    """Every matmul of one training step, forward and backward, as a call on tensors of its own."""
    N, T, K = sequences * c.context, c.context, c.d_head
    sizes = [(c.width, c.width)] * 4 + [(c.width, c.mlp_width), (c.mlp_width, c.width)]
    calls = []
    for fan_in, fan_out in sizes * c.depth + [(c.width, c.vocab_size)]:
        x, w, g = (torch.randn(s).to(dtype) for s in ((N, fan_in), (fan_out, fan_in), (N, fan_out)))
        calls += [lambda x=x, w=w: x @ w.T, lambda g=g, w=w: g @ w, lambda x=x, g=g: g.T @ x]
    for _ in range(c.depth):
        q, k, p = (
            torch.randn(s).to(dtype)
            for s in [(sequences * c.heads, T, K)] * 2 + [(sequences * c.heads, T, T)]
        )
        calls += [lambda q=q, k=k: q @ k.mT, lambda p=p, k=k: p @ k] * 2 + [lambda p=p, k=k: p.mT @ k] * 2
    return calls


def least_bytes(c: ModelConfig, tokens: int, dtype: torch.dtype) -> float:
    """Bytes that a step has to read and write between its matmuls, if each stretch between two is
    one pass.

    Residual stream, its gradient, weights and moments are fp32, all else has the matmuls' dtype, b
    bytes.
    """
    D, b = c.width, dtype.itemsize
    norms = 2 * ((4 + b + 4 + b) + (4 + b + 4 + 4 + b))  # x, branch → x, norm(x); x, its gradients → gradient
    heads = 2 * 3 * (2 * b)  # into the layout of heads and back, with the gradients
    gelu = 4 * (2 * b + 3 * b)
    softmax = c.heads * c.context * (2 * b + 3 * b)
    weights = parameter_count(c) * (4 * 6 + b) + (parameter_count(c) - c.vocab_size * D) * (4 + b)
    return tokens * (c.depth * (D * (norms + heads + gelu) + softmax) + 3 * b * c.vocab_size) + weights


def time_step(config: RunConfig, steps: int) -> dict[str, float]:
    """In a worker: seconds of a step, compiled and not, and of its matmuls alone, in turns; memory
    and the floor."""
    start = time.perf_counter()
    ours = Training([config], load(config.data), CPU, compiled=True)
    compile_seconds = time.perf_counter() - start
    ours.advance(4)
    resident = psutil.Process().memory_info().rss  # a worker keeps what it freed, so this is the peak
    eager = Training([config], load(config.data), CPU)
    eager.advance(4)
    matmuls = matmul_calls(config.model, config.train.batch_size, ours.dtype)
    source = torch.ones(2**25)
    target, turns = torch.empty_like(source), []
    while ours.step < steps:
        turns.append(
            [
                elapsed(lambda: ours.advance(ours.step + 2)) / 2,
                elapsed(lambda: eager.advance(eager.step + 2)) / 2,
                elapsed(lambda: [call() for call in matmuls * 2]) / 2,
                elapsed(lambda: target.copy_(source)),
            ]
        )
    table = pd.DataFrame(turns, columns=["step", "eager", "matmul", "copy"])
    tokens = config.train.batch_size * config.model.context
    passes = least_bytes(config.model, tokens, ours.dtype) * table["copy"] / (2 * source.nbytes)
    medians = pd.DataFrame(
        {
            "step_seconds": table["step"],
            "eager_seconds": table["eager"],
            "matmul_seconds": table["matmul"],
            "step_over_matmul": table["step"] / table["matmul"],
            "eager_over_matmul": table["eager"] / table["matmul"],
            "floor_over_matmul": 1 + passes / table["matmul"],
        }
    ).median()
    return {
        **medians,
        "compile_seconds": compile_seconds,
        "tokens_per_second": tokens / medians["step_seconds"],
        "worker_bytes": resident,
    }


def profile_step(config: RunConfig, steps: int = 20) -> pd.DataFrame:
    """In a worker: milliseconds a compiled step spends in each of its parts, and their share."""
    with torch._inductor.config.patch({"cpp.enable_kernel_profile": True}):
        run = Training([config], load(config.data), CPU, compiled=True)
    run.advance(5)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        run.advance(5 + steps)
    parts = Counter()
    for event in profiler.key_averages():
        found = (part for part, names in PARTS.items() if any(name in event.key for name in names.split("|")))
        parts[next(found, "casts, layouts, all else")] += event.self_cpu_time_total / 1000 / steps
    table = pd.Series(parts, name="ms").sort_values(ascending=False).to_frame()
    return table.assign(share=table["ms"] / table["ms"].sum())


def elapsed(task) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def time_threads(config: RunConfig, steps: int, threads: int) -> float:
    """In a worker: tokens per second of one run with so many threads."""
    torch.set_num_threads(threads)
    run = Training([config], load(config.data), CPU)
    run.advance(4)
    seconds = statistics.median(elapsed(lambda: run.advance(run.step + 2)) / 2 for _ in range(steps // 2 - 2))
    return config.train.batch_size * config.model.context / seconds
