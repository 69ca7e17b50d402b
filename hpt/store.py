"""Run records on disk: one checksummed JSON file a run, written aside and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from hpt.errors import DamagedRecordWarning, HptError, StoreError
from hpt.run import RunConfig, RunResult


class Store:
    """A folder of run records.

    A record is at ``records/<run_id>.json``; records packed by :meth:`pack` are read from the ``*.parquet``
    files beside that folder. A kill at any instant costs at most the run in hand.

    Parameters
    ----------
    path: the folder; made when missing.

    Raises
    ------
    StoreError: where the folder cannot be made or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            for part in ("records", "locks"):
                (self.path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot use {str(self.path)!r} as a run store: {error.strerror}.",
                             "a file is in the way, or the folder is read-only", 'Store("runs/store")') from error

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {sum(1 for _ in self.run_ids())} runs"

    def __contains__(self, run_id: str) -> bool:
        return self.load(run_id) is not None

    def run_ids(self) -> Iterator[str]:
        """Ids of all records, sorted; none is opened."""
        return iter(sorted({p.stem for p in (self.path / "records").glob("*.json")} | set(self._packed)))

    def load(self, run_id: str) -> RunResult | None:
        """The result of a run, or None where there is none.

        A damaged record is renamed to ``<run_id>.json.damaged`` with a :class:`DamagedRecordWarning`, and
        counts as missing.
        """
        file = self._file(run_id)
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            packed = self._packed.get(run_id)
            return None if packed is None else _decode(packed.encode(), run_id)
        try:
            return _decode(text, run_id)
        except (ValueError, KeyError, TypeError, HptError) as error:
            aside = file.with_suffix(".json.damaged")
            os.replace(file, aside)
            warnings.warn(f"run record {file} is damaged ({error}); set aside as {aside.name}, the run repeats.",
                          DamagedRecordWarning, stacklevel=2)
            return None

    def save(self, result: RunResult) -> Path:
        """Write a record under its final name in one step; call it while holding :meth:`lock`."""
        file = self._file(result.run_id)
        aside = file.with_suffix(".json.tmp")
        try:
            with aside.open("wb") as f:
                f.write(_encode(result))
                f.flush()
                os.fsync(f.fileno())
            os.replace(aside, file)
        except OSError as error:
            raise StoreError(f"cannot write {str(file)!r}: {error.strerror}.",
                             "the disk is full or read-only", "the same command again, once there is room") from error
        return file

    def lock(self, run_id: str) -> filelock.BaseFileLock:
        """A lock between processes for one run; the system frees it when its holder dies."""
        return filelock.FileLock(self.path / "locks" / f"{run_id}.lock")

    def table(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row a run (see :meth:`RunResult.row`), of the given ids or of all."""
        results = (self.load(i) for i in (self.run_ids() if run_ids is None else run_ids))
        return pd.DataFrame([r.row() for r in results if r is not None])

    def pack(self, run_ids: Iterable[str], file: str | os.PathLike[str]) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any tool."""
        results = [self.load(i) for i in run_ids]
        frame = pd.DataFrame([{**r.row(), "record": _encode(r).decode()} for r in results if r is not None])
        file = Path(file)
        aside = file.with_name(file.name + ".tmp")
        frame.to_parquet(aside, compression="zstd", index=False)
        os.replace(aside, file)
        return file

    def _file(self, run_id: str) -> Path:
        return self.path / "records" / f"{run_id}.json"

    @cached_property
    def _packed(self) -> dict[str, str]:
        frames = [pd.read_parquet(f, columns=["run_id", "record"]) for f in sorted(self.path.glob("*.parquet"))]
        return {i: r for frame in frames for i, r in zip(frame["run_id"], frame["record"], strict=True)}


def _encode(result: RunResult) -> bytes:
    """Two lines: the checksum of the second, and the record as JSON."""
    values: dict[str, Any] = {**vars(result), "config": result.config.to_dict()}
    values["val_loss"] = result.val_loss if np.isfinite(result.val_loss) else None
    # The shortest decimals that give the same float32 back; JSON has no NaN.
    values["train_loss"] = [float(str(x)) if np.isfinite(x) else None for x in np.float32(result.train_loss)]
    body = json.dumps(values, sort_keys=True, allow_nan=False).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def _decode(text: bytes, run_id: str) -> RunResult:
    checksum, _, body = text.partition(b"\n")
    if hashlib.sha256(body.removesuffix(b"\n")).hexdigest().encode() != checksum:
        raise ValueError("its checksum does not match its content")
    values = json.loads(body)
    if values["run_id"] != run_id:
        raise ValueError(f"it holds run {values['run_id']}")
    values["config"] = RunConfig.from_dict(values["config"])
    values["val_loss"] = float("inf") if values["val_loss"] is None else values["val_loss"]
    values["train_loss"] = np.array([np.nan if x is None else x for x in values["train_loss"]], dtype=np.float32)
    return RunResult(**values)
