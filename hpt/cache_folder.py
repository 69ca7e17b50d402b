"""Values that take a while to find, kept in the cache folder."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs

#: A file or folder.
StrPath = str | os.PathLike[str]


def kept(kind: str, depends_on: Any, find: Callable[[], Any]) -> Any:
    """What ``find()`` gives, or gave before, of JSON types.

    Parameters
    ----------
    kind: folder of ``$HPT_CACHE_DIR`` that holds such values.
    depends_on: all that the value hangs on, of JSON types.
    """
    path = cache_root() / kind / f"{digest(depends_on)[:20]}.json"
    if path.exists():
        return json.loads(path.read_text("utf-8"))
    value = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value).encode())
    return value


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears, or is replaced, in one step."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


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
