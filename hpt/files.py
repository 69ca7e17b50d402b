"""Files read and written with care: no pipe waited for, no half of a file seen, a mistake told by name."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from hpt.errors import ConfigError

#: A file or folder.
StrPath = str | os.PathLike[str]


def read_toml(wing: str, file: str) -> dict:
    """The content of a TOML file that lies in a wing."""
    return tomllib.loads((resources.files(wing) / file).read_text("utf-8"))


def read_regular(path: StrPath, *, own: bool = False, follow: bool = False) -> bytes:
    """The content of a regular file: no pipe or device is waited for, no link followed unless ``follow``.

    Raises
    ------
    OSError: for anything else, or where ``own`` and :func:`check_own` refuses it.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        if own:
            check_own(status, path)
        return file.read()


def check_own(status: os.stat_result, path: StrPath) -> None:
    """Raise PermissionError unless this user or root owns the file and nobody else may write it."""
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write {path}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears, or is replaced, in one step, and stays when the power fails.

    A link of that name is replaced, not followed.  Raises OSError.
    """
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder):
    opened = os.open(folder, os.O_RDONLY)
    # Some network file systems cannot.
    with contextlib.suppress(OSError):
        os.fsync(opened)
    os.close(opened)


def check_writable(folder: Path) -> None:
    """Raise OSError unless a block can be written into a new file of the folder."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(1 << 16))


@contextlib.contextmanager
def writing(file: StrPath) -> Iterator[None]:
    """A file that cannot be written is the user's mistake.  Raises ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot write {str(file)!r}: {error}.",
            "a missing folder, no rights or a full disk",
            "another file",
        ) from error


def check_file(file: Path) -> None:
    """Raise ConfigError unless the file can be written, before work is done for it."""
    with writing(file):
        if file.is_file() or not file.exists():
            check_writable(file.parent)
        if file.exists():
            # Kept as it is.
            file.open("ab").close()


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Inside, these variables of this process's environment have these values; others are left alone."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
