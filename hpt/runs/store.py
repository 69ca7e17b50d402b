"""Run records: one checksummed JSON file a run, written in one step."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd

from hpt.errors import DamagedRecordWarning, HptError, StoreError
from hpt.runs.folders import open_folder
from hpt.runs.records import decode, encode
from hpt.runs.run_config import RunResult


class Store:
    """A folder of run records.

    A record is at ``records/<run_id>.json``; records packed by :meth:`pack` are read from the ``*.parquet``
    files beside that folder. A kill at any instant costs at most the run in hand.

    Parameters
    ----------
    path: the folder; made when missing. A URL that fsspec opens will do, such as ``s3://bucket/runs`` or
        ``file:///shared/runs``. Behind a URL there are no locks: two studies at a time on one store may train a run
        twice, and the last record stays, with the same losses.

    Raises
    ------
    StoreError: where the folder cannot be made, reached or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._folder = open_folder(path)
        self.path: Path | str = self._folder.path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {sum(1 for _ in self.run_ids())} runs"

    def __contains__(self, run_id: str) -> bool:
        return self.load(run_id) is not None

    def run_ids(self) -> Iterator[str]:
        """Ids of all records, sorted; none is opened."""
        names = self._folder.names("records", ".json")
        return iter(sorted({name.removesuffix(".json") for name in names} | set(self._packed)))

    def load(self, run_id: str) -> RunResult | None:
        """The result of a run, or None where there is none.

        A damaged record is renamed to ``<run_id>.json.damaged`` with a :class:`DamagedRecordWarning`, and
        counts as missing.
        """
        name = _name(run_id)
        try:
            text = self._folder.read(name)
        except FileNotFoundError:
            packed = self._packed.get(run_id)
            return None if packed is None else decode(packed.encode(), run_id)
        try:
            return decode(text, run_id)
        except (ValueError, KeyError, TypeError, HptError) as error:
            self._folder.rename(name, f"{name}.damaged")
            warnings.warn(f"run record {self._folder.where(name)} is damaged ({error}); set aside as {run_id}.json."
                          "damaged, the run repeats.", DamagedRecordWarning, stacklevel=2)
            return None

    def save(self, result: RunResult) -> Path | str:
        """Write a record under its final name in one step; call it while holding :meth:`lock`."""
        where = self._folder.where(_name(result.run_id))
        try:
            self._folder.write(_name(result.run_id), encode(result))
        except OSError as error:
            raise StoreError(f"cannot write {str(where)!r}: {error.strerror or error}.",
                             "the disk is full or read-only", "the same command again, once there is room") from error
        return where

    def lock(self, run_id: str) -> contextlib.AbstractContextManager:
        """A lock between processes for one run; the system frees it when its holder dies. None behind a URL."""
        return self._folder.lock(run_id)

    def table(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row a run (see :meth:`RunResult.row`), of the given ids or of all."""
        results = (self.load(i) for i in (self.run_ids() if run_ids is None else run_ids))
        return pd.DataFrame([r.row() for r in results if r is not None])

    def pack(self, run_ids: Iterable[str], file: str | os.PathLike[str]) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any tool."""
        results = [self.load(i) for i in run_ids]
        frame = pd.DataFrame([{**r.row(), "record": encode(r).decode()} for r in results if r is not None])
        file = Path(file)
        aside = file.with_name(file.name + ".tmp")
        frame.to_parquet(aside, compression="zstd", index=False)
        os.replace(aside, file)
        return file

    @cached_property
    def _packed(self) -> dict[str, str]:
        files = [io.BytesIO(self._folder.read(name)) for name in sorted(self._folder.names("", ".parquet"))]
        frames = [pd.read_parquet(f, columns=["run_id", "record"]) for f in files]
        return {i: r for frame in frames for i, r in zip(frame["run_id"], frame["record"], strict=True)}


def _name(run_id: str) -> str:
    return f"records/{run_id}.json"
