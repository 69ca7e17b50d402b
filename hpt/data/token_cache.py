"""Tokens on disk: built once, written atomically, memory-mapped, checked when opened.

Shapes: B windows.
"""

from __future__ import annotations

import contextlib
import functools
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from hpt.cache_folder import digest, prepare, scratch
from hpt.data.batches import Batch, cut, even_starts, random_starts, sha256_of, window_count
from hpt.data.corpus import Corpus
from hpt.data.tokenizer import encode, gpt2, sample, split, train_bpe
from hpt.errors import CacheError, DamagedCacheWarning, DataError
from hpt.files import read_regular

#: Of the cache; a new one makes every cache stale.
FORMAT = 1
MIN_CHARS = 1000
FILES = ("train.bin", "validation.bin", "tokenizer.json")
#: Of a file of tokens, in bytes and in number, that are checked when it is opened.
BLOCK = 1 << 16
BLOCKS = 128
#: What reading a cache that is absent or damaged raises.
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)

log = logging.getLogger("hpt")


@dataclass(frozen=True, eq=False)
class TextSource:
    """Tokens of a text, memory-mapped. Windows may cross documents, never training and validation.

    Attributes
    ----------
    vocab_size: size of the vocabulary a model needs; the tokenizer may use fewer.
    fingerprint: hex; changes if and only if ``vocab_size`` or a token of either part does.
    train_tokens: how many.
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

    def check(self, count: int, context: int) -> None:
        """Raise DataError unless there is a window to train on, and ``count`` to validate."""
        window_count(1, len(self.train), context, f"The text of {self.name}")
        window_count(count, len(self.held_out), context, f"The held-out text of {self.name}")

    def batch(self, seed: int, step: int, batch_size: int, context: int) -> Batch:
        """Inputs and targets, int64 of shape (batch_size, context), a function of the arguments
        alone.

        Raises
        ------
        DataError: the context is longer than the training text.
        """
        name = f"The text of {self.name}"
        starts_B = random_starts(seed, step, batch_size, len(self.train), context, name)
        return cut(self.train, starts_B, context)

    def validation(self, count: int, context: int) -> Batch:
        """``count`` fixed, evenly spaced windows of the held-out text, int64 of shape (count,
        context).

        Raises
        ------
        DataError: the context is longer than the held-out text, or it has fewer windows.
        """
        name = f"The held-out text of {self.name}"
        starts_B = even_starts(count, len(self.held_out), context, name)
        return cut(self.held_out, starts_B, context)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, a list or a tensor of shape (T,)."""
        return self._tokenizer.decode(list(map(int, ids)), skip_special_tokens=False)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))


def open_or_build(
    corpus: Corpus, settings: dict[str, Any], root: Path, build: bool = True
) -> TextSource | None:
    """The tokens of ``corpus`` from the cache, built first where they are missing, stale or
    damaged.

    Processes that ask at the same time wait for the first to finish.

    Parameters
    ----------
    settings: vocab_size, tokenizer, max_tokens, and every, as :func:`hpt.data.tokenizer.split` has
        it; all of them, since they are a part of the cache's name.
    root: the cache folder.
    build: False builds and removes nothing, and gives None where that would be needed.

    Raises
    ------
    DataError: the corpus cannot be read or is too short.
    CacheError: the cache folder cannot be written.
    """
    key = {**settings, "format": FORMAT, "corpus": corpus.key, "tokenizers": version("tokenizers")}
    folder = root / "tokens" / digest(key)[:16]
    with contextlib.suppress(*DAMAGE):
        return _read(folder, key, corpus.name)
    if not build:
        return None
    try:
        prepare(folder.parent)
        with filelock.FileLock(folder.with_suffix(".lock")):
            return _built(corpus, folder, key)
    except CacheError:
        raise
    # A text that cannot be read is told by other errors.
    except OSError as error:
        raise CacheError(
            f"The cache folder {root} cannot be written: {error}.",
            "a full disk or missing rights",
            "load(config, cache_dir='a folder of yours'), or set HPT_CACHE_DIR",
        ) from None


def _built(corpus, folder, key):
    """The tokens, built unless another process has done so in the meantime."""
    if folder.exists():
        try:
            return _read(folder, key, corpus.name)
        except DAMAGE as error:
            warnings.warn(
                f"The token cache {folder} is damaged ({error}); it is built again.",
                DamagedCacheWarning,
                stacklevel=4,
            )
            _remove(folder)
    _build(corpus, folder, key)
    try:
        return _read(folder, key, corpus.name)
    except DAMAGE as error:
        raise CacheError(
            f"The token cache {folder} cannot be read back: {error}.",
            "a full or failing disk",
            "load(config, cache_dir='a folder on another disk')",
        ) from error


def _remove(folder):
    """Whatever has that name."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink()


def _read(folder, key, name):
    stored = json.loads(read_regular(folder / "meta.json"))
    meta = stored["meta"]
    if stored["sha256"] != digest(meta) or meta["key"] != key or set(meta["checks"]) != set(FILES):
        raise ValueError("meta.json fails its checksum")
    for file, check in meta["checks"].items():
        if _check(folder / file) != check:
            raise ValueError(f"{file} fails its checksum")
    train, held_out = _mapped(folder, key)
    return TextSource(
        vocab_size=key["vocab_size"],
        fingerprint=meta["fingerprint"],
        facts=meta["facts"],
        name=name,
        folder=folder,
        train=train,
        held_out=held_out,
    )


def _mapped(folder, key):
    """Training and held-out tokens."""
    files = (folder / "train.bin", folder / "validation.bin")
    return [np.asarray(np.memmap(file, _dtype(key), mode="r")) for file in files]


def _dtype(key):
    return "<u2" if key["vocab_size"] <= 1 << 16 else "<u4"


def _build(corpus, folder, key):
    """Tokenize ``corpus`` into a folder beside ``folder``, then rename it; the caller holds the
    lock."""
    started = time.perf_counter()
    log.info("tokenizing %s, once", corpus.name)
    with scratch(folder.parent) as aside:
        built = aside / "tokens"
        built.mkdir()
        facts = corpus.facts | _tokenize(corpus, built, key)
        if min(facts["train_tokens"], facts["validation_tokens"]) < 2:
            raise DataError(
                f"{corpus.name} leaves no text to train on or to hold out.",
                f"max_tokens={key['max_tokens']} is too small",
                "a larger max_tokens, or None",
            )
        _write_meta(built, key, facts)
        for file in built.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        built.rename(folder)
    log.info("tokenized %s in %.0f s", corpus.name, time.perf_counter() - started)


def _tokenize(corpus, folder, key):
    """Write the tokenizer and the tokens; returns facts."""
    stream = split(corpus.documents(), key["every"])
    head = sample(stream)
    size = sum(len(text) for _, text in head)
    if size < MIN_CHARS:
        raise DataError(
            f"{corpus.name} has {size} characters of text; at least {MIN_CHARS} are needed.",
            "the wrong file, or a text that is too short to train on",
            "give more text",
        )
    if key["tokenizer"] == "gpt2":
        tokenizer = gpt2()
    else:
        texts = (text for held_out, text in head if not held_out)
        tokenizer = train_bpe(texts, key["vocab_size"])
    tokenizer.save(str(folder / "tokenizer.json"))
    counted = _write_tokens(itertools.chain(head, stream), tokenizer, folder, key)
    return counted | {"vocabulary_used": tokenizer.get_vocab_size()}


def _write_tokens(parts, tokenizer, folder, key):
    """Write both parts, each up to its share of ``max_tokens``; returns what was counted."""
    most = key["max_tokens"] or sys.maxsize
    most_held_out = most // key["every"]
    limits = [most - most_held_out, most_held_out]
    documents = [0, 0]
    counts = [0, 0]
    text_bytes = 0
    with (
        (folder / "train.bin").open("wb") as train,
        (folder / "validation.bin").open("wb") as held_out,
        tqdm(unit="B", unit_scale=True, desc="tokenizing, once", disable=None, leave=False) as bar,
    ):
        files = [train, held_out]
        for part, ids, size, last in encode(parts, tokenizer):
            kept = ids[: limits[part] - counts[part]]
            files[part].write(kept.astype(_dtype(key)).tobytes())
            counts[part] += len(kept)
            documents[part] += last and len(kept) > 0
            text_bytes += size * len(kept) // max(len(ids), 1)
            bar.update(size)
            if counts == limits:
                break
    return {
        "train_documents": documents[0],
        "validation_documents": documents[1],
        "text_bytes": text_bytes,
        "train_tokens": counts[0],
        "validation_tokens": counts[1],
        "bytes_per_token": round(text_bytes / max(sum(counts), 1), 3),
    }


def _write_meta(folder, key, facts):
    meta = {
        "key": key,
        "dtype": _dtype(key),
        "fingerprint": fingerprint(key["vocab_size"], *_mapped(folder, key)),
        "facts": facts,
        "checks": {file: _check(folder / file) for file in FILES},
    }
    content = json.dumps({"meta": meta, "sha256": digest(meta)}, indent=1)
    (folder / "meta.json").write_text(content, "utf-8")


def fingerprint(vocab_size: int, train: np.ndarray, held_out: np.ndarray) -> str:
    """SHA-256 (hex) of the vocabulary size and both token sequences, whatever type they are stored
    in."""
    header = f"hpt tokens {vocab_size} {len(train)} {len(held_out)}"
    return sha256_of(header, train, held_out)


def _check(file):
    """Size, and a checksum of at most ``BLOCKS`` evenly spaced blocks and the last: all of a small
    file, 8 MiB of a large one."""
    if not file.is_file():
        raise OSError(f"{file} is no regular file")
    size = file.stat().st_size
    starts = [*range(0, size, max(BLOCK, size // BLOCKS)), max(size - BLOCK, 0)]
    crc = 0
    with file.open("rb") as opened:
        for start in starts:
            opened.seek(start)
            crc = zlib.crc32(opened.read(BLOCK), crc)
    return [size, crc]
