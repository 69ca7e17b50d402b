"""Tokens on disk: built once, written atomically, memory-mapped, checked when opened."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import json
import logging
import os
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from hpt.cache_folder import digest
from hpt.data import batches as windows
from hpt.data import tokenizer as tokens
from hpt.data.corpus import Corpus
from hpt.errors import DamagedCacheWarning, DataError

FORMAT = 1  # of the cache; a new one makes every cache stale
MIN_CHARS = 1000
PARTS = ("train", "validation")
FILES = ("train.bin", "validation.bin", "tokenizer.json")
BLOCK, BLOCKS = 1 << 16, 128

log = logging.getLogger("hpt")


@dataclass(frozen=True, eq=False)
class TextSource:
    """Tokens of a text, memory-mapped. Windows may cross documents, never training and validation.

    Attributes
    ----------
    vocab_size: size of the vocabulary a model needs; the tokenizer may use fewer.
    fingerprint: hex; changes if and only if ``vocab_size`` or a token of either part does.
    train_tokens, validation_tokens: how many.
    entropy_rate: None; nobody knows that of text.
    facts: plain values for a report: documents, bytes, tokens, packages and versions.
    """

    vocab_size: int
    fingerprint: str
    facts: dict[str, Any]
    name: str
    folder: Path
    train: np.ndarray = field(repr=False)
    held_out: np.ndarray = field(repr=False)
    entropy_rate: None = None

    @property
    def train_tokens(self) -> int:
        return len(self.train)

    @property
    def validation_tokens(self) -> int:
        return len(self.held_out)

    def batch(
        self, seed: int, step: int, batch_size: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, int64 of shape (batch_size, context), a function of the arguments
        alone.

        Raises
        ------
        DataError: the context is longer than the training text.
        """
        starts_B = windows.random_starts(
            seed, step, batch_size, len(self.train), context, f"The text of {self.name}"
        )
        return windows.cut(self.train, starts_B, context)

    def validation(self, count: int, context: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``count`` fixed, evenly spaced windows of the held-out text, int64 of shape (count,
        context).

        Raises
        ------
        DataError: the context is longer than the held-out text, or it has fewer windows.
        """
        starts_N = windows.even_starts(
            count, len(self.held_out), context, f"The held-out text of {self.name}"
        )
        return windows.cut(self.held_out, starts_N, context)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, a list or a tensor of shape (T,)."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))


def open_or_build(
    corpus: Corpus,
    root: Path,
    *,
    vocab_size: int,
    tokenizer: str,
    every: int,
    max_tokens: int | None,
    build: bool = True,
) -> TextSource | None:
    """The tokens of ``corpus`` from the cache, built first where they are missing, stale or
    damaged.

    With ``build`` False nothing is built or removed: None where that would be needed.

    Processes that ask at the same time wait for the first to finish.

    Raises
    ------
    DataError: the corpus cannot be read or is too short, or the cache folder cannot be written.
    """
    key = json.loads(
        json.dumps(
            {
                "format": FORMAT,
                "corpus": corpus.key,
                "vocab_size": vocab_size,
                "every": every,
                "tokenizer": tokenizer,
                "max_tokens": max_tokens,
                "tokenizers": importlib.metadata.version("tokenizers"),
            }
        )
    )
    folder = root / "tokens" / digest(key)[:16]
    source, damage = _open(folder, key, corpus.name)
    if source is not None or not build:
        return source
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder.with_suffix(".lock")).acquire()
    except OSError as error:
        raise DataError(
            f"The cache folder {root} cannot be written: {error}.",
            "missing rights",
            "load(config, cache_dir='a folder of yours'), or set HPT_CACHE_DIR",
        ) from None
    with lock:
        source, damage = _open(
            folder, key, corpus.name
        )  # another process may have built it in the meantime
        if source is None:
            if damage:
                warnings.warn(
                    f"The token cache {folder} is damaged ({damage}); it is built again.",
                    DamagedCacheWarning,
                    stacklevel=3,
                )
                shutil.rmtree(folder)
            _build(corpus, folder, key)
            source, damage = _open(folder, key, corpus.name)
    if source is None:
        raise DataError(
            f"The token cache {folder} cannot be read back: {damage}.",
            "a full or failing disk",
            "load(config, cache_dir='a folder on another disk')",
        )
    return source


def _open(folder: Path, key: dict[str, Any], name: str) -> tuple[TextSource | None, str]:
    """The source, or None and what is damaged ("" where there is nothing yet)."""
    if not folder.exists():
        return None, ""
    try:
        stored = json.loads((folder / "meta.json").read_text("utf-8"))
        meta = stored["meta"]
        if stored["sha256"] != digest(meta) or meta["key"] != key:
            return None, "meta.json fails its checksum"
        for file, check in meta["checks"].items():
            if _check(folder / file) != check:
                return None, f"{file} fails its checksum"
        parts = [
            np.asarray(np.memmap(folder / f"{part}.bin", dtype=meta["dtype"], mode="r"))
            for part in PARTS
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{type(error).__name__}: {error}"
    return TextSource(
        vocab_size=key["vocab_size"],
        fingerprint=meta["fingerprint"],
        facts=meta["facts"],
        name=name,
        folder=folder,
        train=parts[0],
        held_out=parts[1],
    ), ""


def _build(corpus: Corpus, folder: Path, key: dict[str, Any]) -> None:
    """Tokenize ``corpus`` into a folder beside ``folder``, then rename it; the caller holds the
    lock."""
    started = time.perf_counter()
    log.info("tokenizing %s, once", corpus.name)
    scratch = folder.with_suffix(".part")  # may be left of a killed process
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    stream = tokens.split(corpus.documents(), key["every"])
    head = tokens.sample(stream)
    size = sum(len(text) for _, text in head)
    if size < MIN_CHARS:
        raise DataError(
            f"{corpus.name} has {size} characters of text; at least {MIN_CHARS} are needed.",
            "the wrong file, or a text that is too short to train on",
            "give more text",
        )
    if key["tokenizer"] == "gpt2":
        tokenizer = tokens.gpt2()
    else:
        tokenizer = tokens.train_bpe(
            (text for held_out, text in head if not held_out), key["vocab_size"]
        )
    tokenizer.save(str(scratch / "tokenizer.json"))
    facts = _write(itertools.chain(head, stream), tokenizer, scratch, key)
    if min(facts["train_tokens"], facts["validation_tokens"]) < 2:
        raise DataError(
            f"{corpus.name} leaves no text to train on or to hold out.",
            f"max_tokens={key['max_tokens']} is too small",
            "a larger max_tokens, or None",
        )
    meta = {
        "key": key,
        "dtype": _dtype(key).str,
        "fingerprint": fingerprint(
            key["vocab_size"],
            *(np.memmap(scratch / f"{part}.bin", dtype=_dtype(key), mode="r") for part in PARTS),
        ),
        "facts": corpus.facts | facts | {"vocabulary_used": tokenizer.get_vocab_size()},
        "checks": {file: _check(scratch / file) for file in FILES},
    }
    (scratch / "meta.json").write_text(
        json.dumps({"meta": meta, "sha256": digest(meta)}, indent=1), "utf-8"
    )
    for file in scratch.iterdir():
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    scratch.rename(folder)
    log.info("tokenized %s in %.0f s", corpus.name, time.perf_counter() - started)


def _write(
    parts: Iterable[tuple[bool, str]], tokenizer: Tokenizer, folder: Path, key: dict[str, Any]
) -> dict[str, Any]:
    """Write both parts, each up to its share of ``max_tokens``; returns what was counted."""
    most, every = key["max_tokens"], key["every"]
    caps = [most - most // every, most // every] if most else [sys.maxsize, sys.maxsize]
    documents, counts, n_bytes = [0, 0], [0, 0], 0
    with (
        contextlib.ExitStack() as stack,
        tqdm(unit="B", unit_scale=True, desc="tokenizing, once", disable=None, leave=False) as bar,
    ):
        files = [stack.enter_context((folder / f"{part}.bin").open("wb")) for part in PARTS]
        for held_out, ids, size, last in tokens.encode(parts, tokenizer):
            kept = ids[: caps[held_out] - counts[held_out]]
            files[held_out].write(kept.astype(_dtype(key)).tobytes())
            documents[held_out] += last and len(kept) > 0
            counts[held_out] += len(kept)
            n_bytes += size * len(kept) // max(len(ids), 1)
            bar.update(size)
            if counts == caps:
                break
    return {
        "train_documents": documents[0],
        "validation_documents": documents[1],
        "text_bytes": n_bytes,
        "train_tokens": counts[0],
        "validation_tokens": counts[1],
        "bytes_per_token": round(n_bytes / max(sum(counts), 1), 3),
    }


def fingerprint(vocab_size: int, train: np.ndarray, held_out: np.ndarray) -> str:
    """SHA-256 (hex) of the vocabulary size and both token sequences, whatever type they are stored
    in."""
    digest = hashlib.sha256(f"hpt tokens {vocab_size} {len(train)} {len(held_out)}\n".encode())
    for part in (train, held_out):
        for start in range(0, len(part), 1 << 20):
            digest.update(part[start : start + (1 << 20)].astype("<u4").tobytes())
    return digest.hexdigest()


def _dtype(key: dict[str, Any]) -> np.dtype:
    return np.dtype("<u2" if key["vocab_size"] <= 1 << 16 else "<u4")


def _check(file: Path) -> list[int]:
    """Size, and a checksum of at most ``BLOCKS`` evenly spaced blocks: all of a small file, 8 MiB
    of a large one."""
    size, crc = file.stat().st_size, 0
    step = max(BLOCK, size // BLOCKS)
    with file.open("rb") as opened:
        for start in range(0, size, step):
            opened.seek(start)
            crc = zlib.crc32(opened.read(BLOCK), crc)
        opened.seek(max(size - BLOCK, 0))
        crc = zlib.crc32(opened.read(BLOCK), crc)
    return [size, crc]
