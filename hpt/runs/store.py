"""Run records: one checksummed JSON file a run, written in one step."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import filelock
import pandas as pd

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
        same losses.

    Raises
    ------
    StoreError: where the folder cannot be made, reached or written.
    """

    def __init__(self, path: str | os.PathLike[str]):
        remote = isinstance(path, str) and "://" in path
        self._folder = RemoteFolder(path) if remote else LocalFolder(path)
        self.path: Path | str = self._folder.path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {len(list(self.run_ids()))} runs"

    def __contains__(self, run_id: str) -> bool:
        return self.load(run_id) is not None

    def run_ids(self) -> Iterator[str]:
        """Ids of all records, sorted; none is opened."""
        files = self._folder.names("records", ".json")
        return iter(sorted({file.removesuffix(".json") for file in files} | self._packed.keys()))

    def load(self, run_id: str) -> RunResult | None:
        """The result of a run, or None where there is none.

        A damaged record counts as missing, with a :class:`DamagedRecordWarning`, and is renamed to
        ``<run_id>.json.damaged``; a packed one stays in its file.

        Raises
        ------
        StoreError: for a record that only a newer hpt understands; it stays as it is.
        """
        name = _name(run_id)
        try:
            file, record = name, self._folder.read(name)
        except FileNotFoundError:
            if run_id not in self._packed:
                return None
            file, record = self._packed[run_id]
        where = self._folder.where(file)
        try:
            return decode(record, run_id, where)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = ""
            if file == name:
                self._folder.rename(name, f"{name}.damaged")
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
        where = self._folder.where(name)
        try:
            self._folder.write(name, encode(result))
        except OSError as error:
            raise StoreError(
                f"cannot write {str(where)!r}: {error.strerror or error}.",
                "the disk is full or read-only",
                "the same command again, once there is room",
            ) from error
        return where

    def lock(self, run_id: str) -> contextlib.AbstractContextManager:
        """A lock between processes for one run; the system frees it when its holder dies. None
        behind a URL."""
        return self._folder.lock(run_id)

    def table(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row a run (see :meth:`RunResult.row`), of the given ids or of all."""
        asked = self.run_ids() if run_ids is None else run_ids
        return pd.DataFrame([result.row() for result in self._found(asked)])

    def pack(self, run_ids: Iterable[str], file: str | os.PathLike[str]) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any
        tool."""
        rows = [r.row() | {"record": encode(r).decode()} for r in self._found(run_ids)]
        file = Path(file)
        aside = file.with_name(file.name + ".tmp")
        pd.DataFrame(rows).to_parquet(aside, compression="zstd", index=False)
        os.replace(aside, file)
        return file

    def _found(self, run_ids: Iterable[str]) -> Iterator[RunResult]:
        results = map(self.load, run_ids)
        return (result for result in results if result is not None)

    @cached_property
    def _packed(self) -> dict[str, tuple[str, bytes]]:
        """File and record of each packed run."""
        packed = {}
        for file in sorted(self._folder.names("", ".parquet")):
            content = io.BytesIO(self._folder.read(file))
            frame = pd.read_parquet(content, columns=["run_id", "record"])
            for run_id, record in frame.itertuples(index=False):
                packed[run_id] = file, record.encode()
        return packed


def _name(run_id: str) -> str:
    return f"records/{run_id}.json"


class LocalFolder:
    """A folder with atomic writes and locks between processes.

    Names are relative, as in ``records/x.json``.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        try:
            for part in ("records", "locks"):
                (self.path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot use {str(path)!r} as a run store: {error.strerror}.",
                "a file is in the way, or the folder is read-only",
                'Store("runs/store")',
            ) from error

    def where(self, name: str) -> Path:
        """The path of a file."""
        return self.path / name

    def names(self, part: str, suffix: str) -> Iterator[str]:
        """Names, within ``part``, of the files that end in ``suffix``."""
        return (file.name for file in self.where(part).glob(f"*{suffix}"))

    def read(self, name: str) -> bytes:
        """A file's content.  Raises FileNotFoundError."""
        return self.where(name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it appears, or is replaced, in one step."""
        aside = f"{name}.tmp"
        with self.where(aside).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.rename(aside, name)

    def rename(self, name: str, to: str) -> None:
        """Rename a file; one that has that name already is replaced."""
        os.replace(self.where(name), self.where(to))

    def lock(self, name: str) -> filelock.BaseFileLock:
        """A lock between processes; the system frees it when its holder dies."""
        return filelock.FileLock(self.where(f"locks/{name}.lock"))


class RemoteFolder:
    """The same behind a URL that fsspec opens, without locks.

    A file system that can rename (``file://``, ``sftp://``) gets each file aside first; on one that
    cannot, an object store (``s3://``, ``gs://``, ``memory://``), a file appears when its upload
    ends.
    """

    def __init__(self, url: str):
        self.path = url.rstrip("/")
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(self.path)
            self._renames = type(self._files).mv is not fsspec.AbstractFileSystem.mv
            self._files.makedirs(self._inside("records"), exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(
                f"cannot use {url!r} as a run store: {error}.",
                "a misspelt URL, no rights there, or a package for this kind of storage is missing",
                'pip install "hpt[ray]", and s3fs for s3://, gcsfs for gs://',
            ) from error

    def _inside(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def where(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.path}/{name}"

    def names(self, part: str, suffix: str) -> Iterator[str]:
        """Names, within ``part``, of the files that end in ``suffix``."""
        # Others write here too.
        self._files.invalidate_cache()
        paths = self._files.ls(self._inside(part), detail=False)
        names = (path.rpartition("/")[2] for path in paths)
        return (name for name in names if name.endswith(suffix))

    def read(self, name: str) -> bytes:
        """A file's content.  Raises FileNotFoundError."""
        return self._files.cat_file(self._inside(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it appears, or is replaced, in one step."""
        aside = f"{name}.{uuid.uuid4().hex}.tmp" if self._renames else name
        self._files.pipe_file(self._inside(aside), content)
        if self._renames:
            self.rename(aside, name)

    def rename(self, name: str, to: str) -> None:
        """Rename a file; one that has that name already is replaced."""
        self._files.mv(self._inside(name), self._inside(to))

    def lock(self, name: str) -> contextlib.AbstractContextManager:
        """No lock: two studies at a time may train one run twice; the last record stays, with the
        same losses."""
        return contextlib.nullcontext()
