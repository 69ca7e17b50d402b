"""Run records: one checksummed JSON file a run, written in one step."""

from __future__ import annotations

import contextlib
import io
import uuid
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import filelock
import fsspec
import pandas as pd
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from hpt.cache_folder import StrPath, write_whole
from hpt.errors import DamagedRecordWarning, StoreError
from hpt.runs.result import RunResult, decode, encode


class Store:
    """A folder of run records.

    A record is at ``records/<run_id>.json``; records packed by :meth:`pack` are read from the
    ``*.parquet`` files beside that folder. A kill at any instant costs at most the run in hand.

    Parameters
    ----------
    path: the folder; made when missing. A URL that fsspec opens will do, such as
        ``s3://bucket/runs`` or ``file:///shared/runs``. Behind a URL there are no locks: two
        studies at a time on one store may train a run twice, and the last record stays, with the
        same losses. A file system that can rename (``file://``, ``sftp://``) gets each record
        aside first; on one that cannot, an object store (``s3://``, ``gs://``, ``memory://``), a
        record appears when its upload ends.

    Raises
    ------
    StoreError: where the folder cannot be made, reached or written.
    """

    def __init__(self, path: StrPath):
        self._local = not (isinstance(path, str) and "://" in path)
        self.path: Path | str = Path(path) if self._local else path.rstrip("/")
        try:
            if self._local:
                files, root = LocalFileSystem(), str(self.path.absolute())
            else:
                files, root = fsspec.url_to_fs(self.path)
            #: The files of the store, by names like ``records/x.json``.
            self._files = DirFileSystem(root, files)
            self._files.makedirs("records", exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(
                f"cannot use {str(path)!r} as a run store: {error}.",
                "a file is in the way, a misspelt URL, no rights, or no package for such storage",
                'Store("runs/store"), or pip install s3fs for s3://, gcsfs for gs://',
            ) from error

    @classmethod
    def at(cls, path: StrPath | Store) -> Store:
        """The store at a path; a store is itself."""
        return path if isinstance(path, cls) else cls(path)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {len(list(self.run_ids()))} runs"

    def __contains__(self, run_id: str) -> bool:
        return self.load(run_id) is not None

    def run_ids(self) -> Iterator[str]:
        """Ids of all records, sorted; none is opened."""
        names = self._names("records", ".json")
        return iter(sorted({name.removesuffix(".json") for name in names} | self._packed.keys()))

    def load(self, run_id: str) -> RunResult | None:
        """The result of a run, or None where there is none.

        A damaged record counts as missing, with a :class:`DamagedRecordWarning`, and is renamed to
        ``<run_id>.json.damaged``; a packed one stays in its file.

        Raises
        ------
        StoreError: for a record that only a newer hpt understands; it stays as it is.
        """
        file = name = _name(run_id)
        try:
            record = self._files.cat_file(name)
        except FileNotFoundError:
            if run_id not in self._packed:
                return None
            file, record = self._packed[run_id]
        where = self._where(file)
        try:
            return decode(record, run_id, where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = ""
            if file == name:
                self._files.mv(name, f"{name}.damaged")
                aside = f"set aside as {run_id}.json.damaged, "
            warnings.warn(
                f"run record {where} is damaged ({error}); {aside}run {run_id} repeats.",
                DamagedRecordWarning,
                stacklevel=2,
            )
            return None

    def save(self, result: RunResult) -> Path | str:
        """Write a record under its final name in one step; call it while holding :meth:`lock`."""
        name = _name(result.run_id)
        where = self._where(name)
        try:
            self._write(name, encode(result))
        except OSError as error:
            raise StoreError(
                f"cannot write {str(where)!r}: {error}.",
                "the disk is full or read-only",
                "the same command again, once there is room",
            ) from error
        return where

    def lock(self, run_id: str) -> contextlib.AbstractContextManager:
        """A lock between processes for one run; the system frees it when its holder dies. None
        behind a URL."""
        if not self._local:
            return contextlib.nullcontext()
        folder = Path(self._files.path, "locks")
        folder.mkdir(exist_ok=True)
        return filelock.FileLock(folder / f"{run_id}.lock")

    def table(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row a run (see :meth:`RunResult.row`), of the given ids or of all."""
        asked = self.run_ids() if run_ids is None else run_ids
        return pd.DataFrame([result.row() for result in self._found(asked)])

    def pack(self, run_ids: Iterable[str], file: StrPath) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any
        tool."""
        rows = [r.row() | {"record": encode(r).decode()} for r in self._found(run_ids)]
        file = Path(file)
        write_whole(file, pd.DataFrame(rows).to_parquet(compression="zstd", index=False))
        return file

    def _found(self, run_ids):
        return filter(None, map(self.load, run_ids))

    @cached_property
    def _packed(self) -> dict[str, tuple[str, bytes]]:
        """File and record of each packed run."""
        packed = {}
        for file in sorted(self._names("", ".parquet")):
            content = io.BytesIO(self._files.cat_file(file))
            frame = pd.read_parquet(content, columns=["run_id", "record"])
            for run_id, record in frame.itertuples(index=False):
                packed[run_id] = file, record.encode()
        return packed

    def _where(self, name):
        return self.path / name if self._local else f"{self.path}/{name}"

    def _names(self, folder, suffix):
        """Of the files there, those that end so."""
        # Others write here too.
        self._files.invalidate_cache()
        paths = self._files.ls(folder, detail=False)
        return [path.rpartition("/")[2] for path in paths if path.endswith(suffix)]

    def _write(self, name, content):
        """Write a file so that it appears, or is replaced, in one step."""
        if self._local:
            write_whole(Path(self._files.path, name), content)
            return
        if type(self._files.fs).mv is fsspec.AbstractFileSystem.mv:
            # It would copy the file, so that half of it could be seen.
            self._files.pipe_file(name, content)
            return
        aside = f"{name}.{uuid.uuid4().hex}.tmp"
        self._files.pipe_file(aside, content)
        self._files.mv(aside, name)


def _name(run_id):
    return f"records/{run_id}.json"
