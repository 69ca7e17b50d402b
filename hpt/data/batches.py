"""Batches: which windows of tokens a training step sees, and which measure the validation loss.

Shapes: B windows, T tokens of context, T1 = T + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import torch

from hpt.errors import ConfigError, DataError

#: No number drawn of one stream is ever one of another.
STREAMS = {"train": 0, "validation": 1, "language": 2}

#: Inputs, and targets, which are the inputs one token later, int64 (B, T).
Batch = tuple[torch.Tensor, torch.Tensor]


class TokenSource(Protocol):
    """Training and validation tokens.

    Attributes
    ----------
    vocab_size: size of the vocabulary a model needs.
    fingerprint: hex; changes if and only if a token would.
    entropy_rate: nats a token, where it is known, else None.
    train_tokens: how many; None is endless.
    facts: plain values for a report.
    """

    vocab_size: int
    fingerprint: str
    entropy_rate: float | None
    train_tokens: int | None
    facts: dict[str, Any]

    def check(self, count: int, context: int) -> None:
        """Raise DataError unless there is a window to train on, and ``count`` to validate."""

    def batch(self, seed: int, step: int, batch_size: int, context: int) -> Batch:
        """Inputs and targets, int64 of shape (batch_size, context), a function of the arguments
        alone."""

    def validation(self, count: int, context: int) -> Batch:
        """Inputs and targets of fixed, evenly spaced held-out windows, int64 of shape (count,
        context)."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids."""


def uniforms(seed: int, step: int, count: int, stream: str = "train") -> np.ndarray:
    """Numbers in [0, 1), float64 of shape (count,), a function of the arguments alone.

    Philox is a counter-based generator: the key is (seed, stream) and the counter starts at the
    step, so no state is carried from one step to the next. The raw words are used, because only
    those are the same in every version of numpy. More numbers continue fewer ones.

    Raises
    ------
    ConfigError: for a seed or a step outside 0 … 2⁶⁴−1.
    """
    if min(seed, step) < 0 or max(seed, step) >= 2**64:
        raise ConfigError(
            f"seed = {seed} or step = {step} is outside 0 … 2⁶⁴−1.", "a negative number", "seed=0"
        )
    key = np.array([seed, STREAMS[stream]], dtype=np.uint64)
    counter = np.array([0, 0, 0, step], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(count)
    return (words >> np.uint64(11)) * 2.0**-53


def random_starts(seed: int, step: int, count: int, tokens: int, context: int, name: str) -> np.ndarray:
    """First positions of ``count`` random windows of ``context`` + 1 tokens, int64 (count,)."""
    check_sizes(count, context)
    windows = window_count(1, tokens, context, name)
    return (uniforms(seed, step, count) * windows).astype(np.int64)


def even_starts(count: int, tokens: int, context: int, name: str) -> np.ndarray:
    """First positions of ``count`` evenly spaced windows of ``context`` + 1 tokens, int64 (count,).

    The windows do not overlap where ``count`` · (``context`` + 1) ≤ ``tokens``, and are never twice
    the same.
    """
    check_sizes(count, context)
    windows = window_count(count, tokens, context, name)
    return np.arange(count, dtype=np.int64) * (windows - 1) // max(count - 1, 1)


def window_count(least: int, tokens: int, context: int, name: str) -> int:
    """How many different windows there are; DataError where they are fewer than ``least``."""
    windows = max(tokens - context, 0)
    if windows < least:
        raise DataError(
            f"{name} has {tokens:,} tokens, so {windows} windows of context {context}, not {least}.",
            "the text is short",
            f"context={max(tokens - least, 1)} or less, {windows} windows or fewer, or more text",
        )
    return windows


def check_sizes(count: int, context: int) -> None:
    """Raise ConfigError unless there is at least one window of at least one token."""
    if min(count, context) < 1:
        raise ConfigError(
            f"{count} windows of context {context}: at least 1 of each is needed.",
            remedy="batch_size=1, context=1 or more",
        )


def sha256_of(header: str, *tables: np.ndarray) -> str:
    """SHA-256 (hex) of a line and of whole numbers, whatever type they are stored in."""
    found = hashlib.sha256(f"{header}\n".encode())
    # Rows at a time: a text may be larger than memory.
    rows = 1 << 20
    for table in tables:
        for start in range(0, len(table), rows):
            found.update(table[start : start + rows].astype("<u4").tobytes())
    return found.hexdigest()


def cut(tokens: np.ndarray, starts_B: np.ndarray, context: int) -> Batch:
    """Inputs and targets of the windows that start there, int64 (B, T)."""
    positions_BxT1 = starts_B[:, None] + np.arange(context + 1)
    return shifted(tokens[positions_BxT1])


def shifted(tokens_BxT1: np.ndarray) -> Batch:
    """Inputs, and targets, which are the inputs one token later, int64 (B, T)."""
    window_BxT1 = torch.from_numpy(tokens_BxT1.astype(np.int64))
    return window_BxT1[:, :-1].contiguous(), window_BxT1[:, 1:].contiguous()


def growing(start: int, stop: int, most: int) -> list[range]:
    """The steps from ``start`` to before ``stop`` in stretches of 1, 2, 4 … steps, at most ``most``: nobody
    waits long for the first, and soon there are few."""
    stretches = []
    size = 1
    while start < stop:
        stretches.append(range(start, min(start + size, stop)))
        start += size
        size = min(2 * size, most)
    return stretches


def feed(
    read: Callable[[int], Sequence[torch.Tensor]], stretches: Sequence[range], device: torch.device
) -> Iterator[Iterator[tuple[torch.Tensor, ...]]]:
    """For each stretch of steps, ``read(step)`` of each of its steps, on the device.

    For a GPU a stretch is read while the one before is computed, and copied as one: a step of small models
    takes a GPU a millisecond, and to read, pin and copy its batch alone as long. It is pinned here, so that
    the reader makes no CUDA call, which another thread's capture of a graph might not bear. On a CPU a
    reader would take the core that trains: steps of 5 to 27 ms, of which a batch is 0.1, took −2 to 5 %
    longer with one.
    """

    def whole(stretch):
        return [torch.stack(side) for side in zip(*map(read, stretch), strict=True)]

    if device.type == "cuda":
        for sides in ahead(whole, stretches):
            yield zip(*(side.pin_memory().to(device, non_blocking=True) for side in sides), strict=True)
    else:
        for stretch in stretches:
            yield (tuple(side.to(device) for side in read(step)) for step in stretch)


def ahead(read: Callable[[Any], Any], these: Iterable[Any]) -> Iterator[Any]:
    """``read(this)`` for each; the next one is read meanwhile, by a thread of its own."""
    with ThreadPoolExecutor(1) as reader:
        coming = None
        for this, following in pairwise(chain(these, [None])):
            found = coming.result() if coming else read(this)
            coming = None if following is None else reader.submit(read, following)
            yield found
