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

from hpt.errors import DamagedRecordWarning, HptError, StoreError
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

        A damaged record is renamed to ``<run_id>.json.damaged`` with a
        :class:`DamagedRecordWarning`, and counts as missing.
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
            warnings.warn(
                f"run record {self._folder.where(name)} is damaged ({error}); set aside as {run_id}.json."
                "damaged, the run repeats.",
                DamagedRecordWarning,
                stacklevel=2,
            )
            return None

    def save(self, result: RunResult) -> Path | str:
        """Write a record under its final name in one step; call it while holding :meth:`lock`."""
        where = self._folder.where(_name(result.run_id))
        try:
            self._folder.write(_name(result.run_id), encode(result))
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
        results = (self.load(i) for i in (self.run_ids() if run_ids is None else run_ids))
        return pd.DataFrame([r.row() for r in results if r is not None])

    def pack(self, run_ids: Iterable[str], file: str | os.PathLike[str]) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any
        tool."""
        results = [self.load(i) for i in run_ids]
        frame = pd.DataFrame(
            [{**r.row(), "record": encode(r).decode()} for r in results if r is not None]
        )
        file = Path(file)
        aside = file.with_name(file.name + ".tmp")
        frame.to_parquet(aside, compression="zstd", index=False)
        os.replace(aside, file)
        return file

    @cached_property
    def _packed(self) -> dict[str, str]:
        files = [
            io.BytesIO(self._folder.read(name))
            for name in sorted(self._folder.names("", ".parquet"))
        ]
        frames = [pd.read_parquet(f, columns=["run_id", "record"]) for f in files]
        return {
            i: r for frame in frames for i, r in zip(frame["run_id"], frame["record"], strict=True)
        }


def _name(run_id: str) -> str:
    return f"records/{run_id}.json"


def open_folder(path: str | os.PathLike[str]) -> LocalFolder | RemoteFolder:
    """The folder at a path, or behind a URL such as ``s3://bucket/runs``; made when missing.

    Raises
    ------
    StoreError: where it cannot be made or reached.
    """
    return (
        RemoteFolder(path) if isinstance(path, str) and "://" in path else LocalFolder(Path(path))
    )


class LocalFolder:
    """A folder with atomic writes and locks between processes. Names are relative, as in
    ``records/x.json``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            for part in ("records", "locks"):
                (path / part).mkdir(parents=True, exist_ok=True)
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
        return (p.name for p in (self.path / part).glob(f"*{suffix}"))

    def read(self, name: str) -> bytes:
        """A file's content.  Raises FileNotFoundError."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it appears, or is replaced, in one step."""
        aside = self.path / f"{name}.tmp"
        with aside.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, self.path / name)

    def rename(self, name: str, to: str) -> None:
        """Rename a file; one that has that name already is replaced."""
        os.replace(self.path / name, self.path / to)

    def lock(self, name: str) -> filelock.BaseFileLock:
        """A lock between processes; the system frees it when its holder dies."""
        return filelock.FileLock(self.path / "locks" / f"{name}.lock")


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

            self._fs, self._root = fsspec.core.url_to_fs(self.path)
            self._renames = type(self._fs).mv is not fsspec.AbstractFileSystem.mv
            self._fs.makedirs(f"{self._root}/records", exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(
                f"cannot use {url!r} as a run store: {error}.",
                "a misspelt URL, no rights there, or a package for this kind of storage is missing",
                'pip install "hpt[ray]", and s3fs for s3://, gcsfs for gs://',
            ) from error

    def where(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.path}/{name}"

    def names(self, part: str, suffix: str) -> Iterator[str]:
        """Names, within ``part``, of the files that end in ``suffix``."""
        self._fs.invalidate_cache()  # others write here too
        files = self._fs.ls(f"{self._root}/{part}".rstrip("/"), detail=False)
        return (name for f in files if (name := f.rpartition("/")[2]).endswith(suffix))

    def read(self, name: str) -> bytes:
        """A file's content.  Raises FileNotFoundError."""
        return self._fs.cat_file(f"{self._root}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it appears, or is replaced, in one step."""
        file = f"{self._root}/{name}"
        aside = f"{file}.{uuid.uuid4().hex}.tmp" if self._renames else file
        self._fs.pipe_file(aside, content)
        if self._renames:
            self._fs.mv(aside, file)

    def rename(self, name: str, to: str) -> None:
        """Rename a file; one that has that name already is replaced."""
        self._fs.mv(f"{self._root}/{name}", f"{self._root}/{to}")

    def lock(self, name: str) -> contextlib.nullcontext:
        """No lock: two studies at a time may train one run twice; the last record stays, with the
        same losses."""
        return contextlib.nullcontext()
