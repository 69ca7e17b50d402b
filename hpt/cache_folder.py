"""The cache folder: what takes a while to make, kept for the next time.

Nothing in it is lost when it is: what is missing, damaged or not to be trusted is made again. A cache that
cannot be written has a folder in its place while the command runs.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import platformdirs

from hpt.errors import CacheWarning
from hpt.files import StrPath, check_own, check_writable, read_regular, write_whole

#: Names the folder in the cache's place, for the processes that this one starts.
STAND_IN = "HPT_CACHE_STAND_IN"
#: A file that is written aside is in place or given up by then.
SECONDS_ASIDE = 3600


def kept(kind: str, depends_on: Any, find: Callable[[], Any]) -> Any:
    """What ``find()`` gives, or gave before, of JSON types.

    Parameters
    ----------
    kind: folder of ``$HPT_CACHE_DIR`` that holds such values.
    depends_on: all that the value hangs on, of JSON types.
    """
    name = f"{digest(depends_on)[:20]}.json"
    found = look_up(kind, name)
    if found is not None:
        return json.loads(found)
    value = find()
    try:
        keep(writable(kind) / name, json.dumps(value).encode())
    except OSError as error:
        # It was found; the next one finds it again.
        stand_in(error)
    return value


def look_up(kind: str, name: str, *, own: bool = False) -> bytes | None:
    """What :func:`keep` wrote under that name; None where there is nothing, or nothing whole.

    ``own`` is for native code: only folders and files count that this user or root owns and nobody else
    may write.
    """
    for folder in (root / kind for root in (cache_root(), known_stand_in()) if root):
        with contextlib.suppress(OSError, ValueError):
            if own:
                check_own(folder.stat(), folder)
            return _unsealed(name, read_regular(folder / name, own=own))
    return None


def keep(path: Path, content: bytes) -> None:
    """Write content with its checksum, so that it appears in one step.  Raises OSError."""
    write_whole(path, _checksum(path.name, content) + b"\n" + content)


def _unsealed(name, sealed):
    checksum, _, content = sealed.partition(b"\n")
    if checksum != _checksum(name, content):
        raise ValueError(f"{name} does not match its checksum")
    return content


def _checksum(name, content):
    """Of the name too: whole content of another name is damage."""
    return hashlib.sha256(b"%s\n%s" % (name.encode(), content)).hexdigest().encode()


def writable(kind: str, *, own: bool = False) -> Path:
    """The cache's folder for such things, by :func:`prepare`, or one in its place."""
    folder = cache_root() / kind
    try:
        return prepare(folder, own=own)
    except OSError as error:
        return prepare(stand_in(error) / kind, own=own)


def prepare(folder: Path, *, own: bool = False) -> Path:
    """Make a folder of a cache and sweep it.  Raises OSError where it cannot be written, is full, or where
    ``own`` and others may write it."""
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700 if own else 0o777, exist_ok=True)
    if own:
        check_own(folder.stat(), folder)
    check_writable(folder)
    _sweep(folder)
    return folder


def known_stand_in() -> Path | None:
    """The folder that :func:`stand_in` gave before, here or in the process that started this one."""
    found = os.environ.get(STAND_IN, "")
    return Path(found) if os.path.isdir(found) else None


def stand_in(reason: object) -> Path:
    """A folder in the cache's place, for this process and those that it starts; says so once."""
    if found := known_stand_in():
        return found
    folder = tempfile.mkdtemp(prefix="hpt-cache-")
    os.environ[STAND_IN] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    warnings.warn(
        f"The cache folder {cache_root()} does not keep all that it should: {reason}. What it lacks is made "
        "anew each time. Mend it, or set HPT_CACHE_DIR to a folder of yours.",
        CacheWarning,
        stacklevel=2,
    )
    return Path(folder)


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A new folder inside, removed at the end; after a kill, by the next to call :func:`writable`."""
    with filelock.FileLock(folder / "scratch.lock"):
        made = Path(tempfile.mkdtemp(prefix="tmp", dir=folder))
        alive = filelock.FileLock(made / "alive.lock").acquire()
    with alive:
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _sweep(folder):
    """Remove what killed processes left: folders whose maker is gone, files aside that are old."""
    leftovers = [*folder.glob("tmp*"), *folder.glob("*.part")]
    old = time.time() - SECONDS_ASIDE
    for file in folder.glob("*.tmp"):
        # Another may be faster, at this and at renaming.
        with contextlib.suppress(OSError):
            if file.lstat().st_mtime < old:
                file.unlink()
    if not leftovers:
        return
    with filelock.FileLock(folder / "scratch.lock"):
        for left in leftovers:
            with contextlib.suppress(OSError), filelock.FileLock(left / "alive.lock", timeout=0):
                shutil.rmtree(left)


def code_of(*modules: ModuleType) -> str:
    """Their source: what depends on it is found anew when it changes."""
    return "".join(map(inspect.getsource, modules))


def cache_root(cache_dir: StrPath | None = None) -> Path:
    """``cache_dir``, else $HPT_CACHE_DIR, else this user's cache folder."""
    folder = cache_dir or os.environ.get("HPT_CACHE_DIR") or platformdirs.user_cache_dir("hpt")
    return Path(folder).expanduser()


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
