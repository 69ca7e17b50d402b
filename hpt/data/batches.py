"""Windows of tokens: which ones a training step sees, and which ones measure the validation loss."""

from __future__ import annotations

import numpy as np
import torch

from hpt.errors import ConfigError, DataError

STREAMS = {"train": 0, "validation": 1, "language": 2}  # no draw of one is ever one of another


def uniforms(seed: int, step: int, count: int, stream: str = "train") -> np.ndarray:
    """Numbers in [0, 1), float64 of shape (count,), a function of the arguments alone.

    Philox is a counter-based generator: the key is (seed, stream) and the counter starts at the
    step, so no state is carried from one step to the next. The raw words are used, because only
    those are the same in every version of numpy. More numbers continue fewer ones.

    Raises
    ------
    ConfigError: for a seed or a step outside 0 … 2⁶⁴−1.
    """
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value < 2**64:
            raise ConfigError(f"{name} = {value!r} is outside 0 … 2⁶⁴−1.", "a negative number",
                              f"{name}={abs(int(value)) % 2**64}")
    key = np.array([seed, STREAMS[stream]], dtype=np.uint64)
    counter = np.array([0, 0, 0, step], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(count)
    return (words >> np.uint64(11)) * 2.0**-53


def random_starts(seed: int, step: int, count: int, tokens: int, context: int, name: str) -> np.ndarray:
    """First positions of ``count`` random windows of ``context`` + 1 tokens, int64 of shape (count,)."""
    choices = tokens - context
    _check(count, context, choices, tokens, name)
    return (uniforms(seed, step, count) * choices).astype(np.int64)


def even_starts(count: int, tokens: int, context: int, name: str) -> np.ndarray:
    """First positions of ``count`` evenly spaced windows of ``context`` + 1 tokens, int64 of shape (count,).

    The windows do not overlap where ``count`` · (``context`` + 1) ≤ ``tokens``, and are never twice the same.
    """
    choices = tokens - context
    _check(count, context, choices, tokens, name)
    if choices < count:
        raise DataError(f"{name} has {tokens:,} tokens, so {choices:,} windows of context {context}, not {count:,}.",
                        "the text is short", f"count={choices}, a shorter context, or more text")
    return np.arange(count, dtype=np.int64) * (choices - 1) // max(count - 1, 1)


def cut(tokens: np.ndarray, starts_B: np.ndarray, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, int64 of shape (B, context); targets are the inputs one token later."""
    return shift(tokens[starts_B[:, None] + np.arange(context + 1)])


def shift(tokens_BxT1: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Split windows of T + 1 tokens into inputs and targets, int64 of shape (B, T)."""
    window_BxT1 = torch.from_numpy(tokens_BxT1.astype(np.int64))
    return window_BxT1[:, :-1].contiguous(), window_BxT1[:, 1:].contiguous()


def check_sizes(count: int, context: int) -> None:
    """Raise ConfigError unless there is at least one window of at least one token."""
    for name, value in (("the number of windows", count), ("context", context)):
        if value < 1:
            raise ConfigError(f"{name} = {value}: at least 1 is needed.", remedy=f"{name} = 1 or more")


def _check(count: int, context: int, choices: int, tokens: int, name: str) -> None:
    check_sizes(count, context)
    if choices < 1:
        raise DataError(f"{name} has {tokens:,} tokens; a window of context {context:,} takes {context + 1:,}.",
                        "the context is longer than the text",
                        f"context={max(tokens - 1, 1)} or less, or more text")
