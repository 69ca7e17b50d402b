"""Run records: one checksummed JSON file a run, written in one step."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
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

from hpt.cache_folder import code_of, digest, keep, look_up, writable
from hpt.errors import DamagedRecordWarning, StoreError
from hpt.files import StrPath, read_regular, write_whole
from hpt.runs import result as results
from hpt.runs import run_config
from hpt.runs.result import RunResult, decode, decode_row, encode

RUN_ID = re.compile(r"[0-9a-f]{20}")
#: Of a file of packed records.
PACKED = ["run_id", "record"]
#: Rows of so many records are kept.
MANY = 500
#: Records that are read before they are decoded.
AT_ONCE = 64
#: What reading a damaged record raises.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)


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
        if not isinstance(path, str | os.PathLike):
            raise StoreError(f"Store({path!r}): no path.", "", 'Store("runs/store")')
        self._local = not (isinstance(path, str) and "://" in path)
        self.path: Path | str = Path(path) if self._local else path.rstrip("/")
        try:
            if self._local:
                files = LocalFileSystem()
                root = str(self.path.absolute())
            else:
                files, root = fsspec.url_to_fs(self.path)
            #: The files of the store, by names like ``records/x.json``.
            self._files = DirFileSystem(root, files)
            self._files.makedirs("records", exist_ok=True)
        except (ImportError, ValueError, OSError, TypeError) as error:
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
        loose = {name.removesuffix(".json") for name in self._names("records", ".json")}
        return iter(sorted(set(filter(RUN_ID.fullmatch, loose)) | self._packed.keys()))

    def load(self, run_id: str) -> RunResult | None:
        """The result of a run, or None where there is none.

        A damaged record counts as missing, with a :class:`DamagedRecordWarning`, and is renamed to
        ``<run_id>.json.damaged``; a packed one stays in its file.

        Raises
        ------
        StoreError: for a record that only a newer hpt understands, or that cannot be read; it stays as it is.
            And for what is no run id.
        """
        return self._decoded(run_id, *self._record(run_id), decode)

    def _record(self, run_id):
        """The file of a run's record and what stands in it; None where there is none."""
        name = _name(run_id)
        record = self._content(name)
        if record is None and run_id in self._packed:
            return self._packed[run_id][:2]
        return name, record

    def _decoded(self, run_id, file, record, decode):
        """What ``decode`` makes of a record; None where there is none, or a damaged one."""
        if record is None:
            return None
        try:
            return decode(record, run_id, f"{self.path}/{file}")
        except DAMAGE as error:
            aside = self._set_aside(file, record) if file == _name(run_id) else ""
            warnings.warn(
                f"run record {self._where(file)} is damaged ({error}); {aside}run {run_id} repeats.",
                DamagedRecordWarning,
                stacklevel=3,
            )
            return None

    def _read_rows(self, run_ids):
        """Of each run its id and its row, or None; files are read many at a time, which is faster than to
        read and decode by turns (``benchmarks/many_records.py``)."""
        for first in range(0, len(run_ids), AT_ONCE):
            batch = run_ids[first : first + AT_ONCE]
            records = [self._record(run_id) for run_id in batch]
            for run_id, (file, record) in zip(batch, records, strict=True):
                yield run_id, self._decoded(run_id, file, record, decode_row)

    def _content(self, name):
        """Of a file of the store; None where there is none, nothing for what is no file."""
        try:
            if self._local:
                return read_regular(f"{self._files.path}/{name}", follow=True)
            return self._files.cat_file(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            if self._local and not Path(self._files.path, name).is_file():
                return b""
            raise StoreError(
                f"cannot read {str(self._where(name))!r}: {error}.",
                "missing rights, or a failing disk or network",
                "the same command again, once it can be read",
            ) from error

    def _set_aside(self, name, record):
        """Rename a damaged record, unless another process has put a whole one in its place."""
        with contextlib.suppress(OSError):
            if self._content(name) == record:
                if self._local:
                    where = Path(self._files.path, name)
                    where.rename(f"{where}.damaged")
                else:
                    self._files.mv(name, f"{name}.damaged")
            return f"set aside as {name.rpartition('/')[2]}.damaged, "
        return ""

    def save(self, result: RunResult) -> Path | str:
        """Write a record under its final name in one step; call it while holding :meth:`lock`."""
        name = _name(result.run_id)
        where = self._where(name)
        try:
            self._write(name, encode(result))
        except OSError as error:
            raise self._cannot_write(where, error) from error
        return where

    def check_writable(self) -> None:
        """Raise StoreError unless records can be written here and other processes find them."""
        if not self._local and self._files.fs.protocol in ("memory", ("memory",)):
            raise StoreError(
                f"the store {self.path} keeps nothing: no other process sees what is in it.",
                "a memory:// store is not shared with the processes that train",
                'Store("runs/store"), or a URL such as s3://bucket/runs',
            )
        probe = f"records/{uuid.uuid4().hex}.tmp"
        try:
            try:
                self._files.pipe_file(probe, bytes(1 << 12))
            finally:
                self._files.rm_file(probe)
            if self._local:
                self._lock_folder()
        # File systems that only read have no error in common.
        except (OSError, NotImplementedError, ValueError) as error:
            raise self._cannot_write(self.path, error) from error

    def _cannot_write(self, where, error):
        return StoreError(
            f"cannot write {str(where)!r}: {error}.",
            "the disk is full or read-only",
            "the same command again, once there is room",
        )

    def lock(self, run_id: str) -> contextlib.AbstractContextManager:
        """A lock between processes for one run; the system frees it when its holder dies. None
        behind a URL."""
        _name(run_id)
        if not self._local:
            return contextlib.nullcontext()
        try:
            return filelock.FileLock(self._lock_folder() / f"{run_id}.lock")
        except OSError as error:
            raise self._cannot_write(self.path, error) from error

    def _lock_folder(self):
        folder = Path(self._files.path, "locks")
        folder.mkdir(exist_ok=True)
        return folder

    def table(self, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
        """One row a run (see :meth:`RunResult.row`), of the given ids or of all.

        Rows of a folder of many records are kept in the cache folder, and read again where a file has
        changed.
        """
        asked = list(self.run_ids() if run_ids is None else run_ids)
        return pd.DataFrame(list(self._rows(asked)))

    def _rows(self, run_ids):
        """The rows of these runs, as far as they have records."""
        if not self._local or len(run_ids) < MANY:
            yield from (row for _, row in self._read_rows(run_ids) if row)
            return
        stamps = self._stamps()
        name = f"{digest([self._files.path, code_of(results, run_config)])[:20]}.json"
        known = json.loads(look_up("tables", name) or b"{}")
        kept = {i: row for i, (stamp, row) in known.items() if stamp == stamps.get(i)}
        rows = kept | dict(self._read_rows([i for i in run_ids if i not in kept]))
        yield from filter(None, map(rows.get, run_ids))
        fresh = {i: (stamps[i], row) for i, row in rows.items() if row and i in stamps}
        if fresh.keys() - kept.keys():
            # Without it they are read again.
            with contextlib.suppress(OSError):
                keep(writable("tables") / name, json.dumps(fresh).encode())

    def _stamps(self):
        """What changes when a record does: of each run, its file's number, size and times."""
        stamps = {run_id: stamp for run_id, (_, _, stamp) in self._packed.items()}
        for entry in os.scandir(f"{self._files.path}/records"):
            stamps[entry.name.removesuffix(".json")] = _stamp(entry.stat())
        return stamps

    def pack(self, run_ids: Iterable[str], file: StrPath) -> Path:
        """Write the records of a finished study into one Parquet file, readable as a table by any
        tool."""
        rows = [r.row() | {"record": encode(r).decode()} for r in filter(None, map(self.load, run_ids))]
        frame = pd.DataFrame(rows, columns=None if rows else PACKED)
        write_whole(Path(file), frame.to_parquet(compression="zstd", index=False))
        return Path(file)

    @cached_property
    def _packed(self):
        """File, record and stamp of each packed run; what is no pack, and rows of no run, are left out."""
        packed = {}
        for file in sorted(self._names("", ".parquet")):
            records, left_out = self._read_pack(file)
            packed |= records
            if left_out:
                warnings.warn(
                    f"{self._where(file)} is damaged, or no file of packed records: {left_out} left out.",
                    DamagedRecordWarning,
                    stacklevel=2,
                )
        return packed

    def _read_pack(self, file):
        """The records of one file of packed runs, and what of it is left out, in words."""
        try:
            stamp = _stamp(os.stat(f"{self._files.path}/{file}")) if self._local else None
            content = self._content(file) or b""
            frame = pd.read_parquet(io.BytesIO(content), columns=PACKED)
            sound = list(filter(_is_packed, frame.itertuples(index=False)))
            records = {row.run_id: (file, row.record.encode(), stamp) for row in sound}
        except (*DAMAGE, OSError, MemoryError) as error:
            first_line = str(error).partition("\n")[0]
            return {}, f"it ({type(error).__name__}: {first_line})"
        unsound = len(frame) - len(sound)
        return records, f"{unsound} of its rows" if unsound else ""

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


def _is_packed(row):
    """Whether a row of a pack is a record with the id of a run."""
    if not all(isinstance(text, str) for text in row):
        return False
    return RUN_ID.fullmatch(row.run_id) is not None


def _stamp(status):
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _name(run_id):
    """The file of a run's record; StoreError for what could be another file's name."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise StoreError(
            f"{run_id!r} is no run id.",
            "a run id has twenty hexadecimal digits",
            "store.load(result.run_id); list(store.run_ids()) has them all",
        )
    return f"records/{run_id}.json"
