"""The folder that a run store lives in: on this machine's file systems, or behind a URL."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import filelock

from hpt.errors import StoreError


def open_folder(path: str | os.PathLike[str]) -> LocalFolder | RemoteFolder:
    """The folder at a path, or behind a URL such as ``s3://bucket/runs``; made when missing.

    Raises
    ------
    StoreError: where it cannot be made or reached.
    """
    return RemoteFolder(path) if isinstance(path, str) and "://" in path else LocalFolder(Path(path))


class LocalFolder:
    """A folder with atomic writes and locks between processes. Names are relative, as in ``records/x.json``."""

    def __init__(self, path: Path):
        self.path = path
        try:
            for part in ("records", "locks"):
                (path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot use {str(path)!r} as a run store: {error.strerror}.",
                             "a file is in the way, or the folder is read-only", 'Store("runs/store")') from error

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

    A file system that can rename (``file://``, ``sftp://``) gets each file aside first; on one that cannot, an
    object store (``s3://``, ``gs://``, ``memory://``), a file appears when its upload ends.
    """

    def __init__(self, url: str):
        self.path = url.rstrip("/")
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(self.path)
            self._renames = type(self._fs).mv is not fsspec.AbstractFileSystem.mv
            self._fs.makedirs(f"{self._root}/records", exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(f"cannot use {url!r} as a run store: {error}.",
                             "a misspelt URL, no rights there, or a package for this kind of storage is missing",
                             'pip install "hpt[ray]", and s3fs for s3://, gcsfs for gs://') from error

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
        """No lock: two studies at a time may train one run twice; the last record stays, with the same losses."""
        return contextlib.nullcontext()
