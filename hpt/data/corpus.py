"""Where documents come from: installed packages, the user's own files, or a dataset hub."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import Any

import pyarrow
import pyarrow.parquet

from hpt.errors import DataError
from hpt.files import read_regular

SHUFFLE_SEED = "hpt 0"

HUB_EXAMPLE = (
    "DataConfig(source='hub', dataset='HuggingFaceFW/fineweb-edu', subset='sample-10BT', "
    "max_tokens=100_000_000)"
)

# Compared once over the wheels of Linux (x86-64, arm64), macOS (arm64) and Windows, CPython 3.11 to
# 3.13: these names are written when the package is built; a package's first __init__.py is patched
# on Windows; numpy.distutils is shipped for Python 3.11 only.
GENERATED = {"version.py", "_version.py", "_version_meson.py", "__config__.py", "_distributor_init.py"}


#: Rows of Parquet that are in memory at once: a row group may unfold to gigabytes.
ROWS = 16


@dataclass(frozen=True)
class Corpus:
    """A source of documents.

    Attributes
    ----------
    name: what to call it in a message.
    key: JSON values that change when the documents may have changed; they decide whether a cache is
        stale.
    facts: JSON values for a report.
    documents: yields the texts, one after another, in an order that is always the same.
    """

    name: str
    key: dict[str, Any]
    facts: dict[str, Any]
    documents: Callable[[], Iterator[str]]


def installed(packages: tuple[str, ...]) -> Corpus:
    """The Python sources of installed packages, as their RECORD lists them, shuffled by a fixed
    seed.

    Sources that are generated at build time or differ by platform are left out, and line ends are
    normalized, so that the same versions give the same text everywhere.

    Raises
    ------
    DataError: a package is not installed, or its installation does not say which files it has.
    """
    found = {name: _distribution(name) for name in sorted(packages)}
    versions = {name: package.version for name, package in found.items()}
    records = {name: _sha256(_record(package)) for name, package in found.items()}
    # A local version label ("2.13.0+cpu") names a build, not a source.
    public = {name: version.split("+")[0] for name, version in versions.items()}
    return Corpus(
        name=f"installed packages ({', '.join(found)})",
        key={"versions": versions, "records": records},
        facts={"packages": public},
        documents=partial(_sources, list(found.values())),
    )


def _distribution(name):
    try:
        found = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise DataError(
            f"source='installed' needs the package {name!r}, which is not installed here.",
            "an environment that was not made from the lock file",
            "pip install it, or DataConfig(packages=(…)) with packages that you have",
        ) from None
    if ".py," not in _record(found):
        raise DataError(
            f"The package {name!r} lists no Python sources among its files.",
            "an editable installation, or one without a RECORD",
            "pip install --force-reinstall, or DataConfig(packages=(…)) without it",
        )
    return found


def _record(distribution):
    """Its list of files."""
    return distribution.read_text("RECORD") or ""


def _sources(distributions):
    paths = {
        file.as_posix(): Path(file.locate())
        for distribution in distributions
        for file in distribution.files
        if is_stable_source(file)
    }
    for name in shuffled(paths):
        with _named_if_unreadable(paths[name]):
            yield from filter(None, _txt(paths[name]))


def is_stable_source(file: PurePath) -> bool:
    """Whether ``file`` (relative to site-packages) is a Python source that is the same on every
    platform."""
    elsewhere = file.is_absolute() or ".." in file.parts
    generated = file.name in GENERATED
    patched = file.name == "__init__.py" and len(file.parts) == 2
    of_old_pythons = file.parts[:2] == ("numpy", "distutils")
    return file.suffix == ".py" and not (elsewhere or generated or patched or of_old_pythons)


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in a random order that depends on nothing but the names: that of their salted
    SHA-256."""
    return sorted(names, key=lambda name: _sha256(f"{SHUFFLE_SEED} {name}"))


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def files(path: str, column: str = "text", follow_links: bool = False) -> Corpus:
    """The user's own text: a .txt, .jsonl or .parquet file, or a folder of these, searched to any
    depth.

    A .txt file is one document; a line of .jsonl has its text in the field ``column``, a row of
    .parquet in the column of that name. Rows with an empty text are skipped; an empty file is an
    error. So is a link out of the folder, unless ``follow_links``, and what is no file: a pipe or a device.

    Raises
    ------
    DataError: nothing to read; or, while reading, an empty, unreadable or binary file, named with
        its line.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(
            f"There is no file or folder {path!r}.",
            f"a misspelt path, or one relative to another folder than {Path.cwd()}",
            "DataConfig(source='files', path='/full/path/to/text')",
        )
    found = _text_files(root, follow_links) if root.is_dir() else [root]
    if not found:
        others = sorted({file.suffix or file.name for file in root.iterdir()})
        raise DataError(
            f"The folder {path!r} holds no text that can be read.",
            f"other formats: {', '.join(others[:8]) or 'the folder is empty'}",
            "put files that end in .txt, .jsonl or .parquet there",
        )
    return Corpus(
        name=path,
        key={"files": list(map(_stamp, found)), "column": column},
        facts={"path": path, "files": len(found)},
        documents=partial(_texts, found, column),
    )


def _text_files(root, follow_links):
    """Those that can be read and are not hidden, by relative name shuffled."""
    names = [
        file.relative_to(root).as_posix()
        for file in root.rglob("*")
        if file.suffix.lower() in READERS and not file.is_dir()
    ]
    found = [root / name for name in shuffled(names) if "/." not in f"/{name}"]
    for file in found:
        # Unlike Path.resolve it bears a link to itself.
        target = os.path.realpath(file)
        if not follow_links and not Path(target).is_relative_to(os.path.realpath(root)):
            raise DataError(
                f"{file} is a link to {target}, outside of the folder.",
                "a folder of another's making, or texts kept elsewhere",
                "DataConfig(…, follow_links=True), if it is to be read",
            )
    return found


def _stamp(file):
    """What changes when a file does."""
    with _named_if_unreadable(file):
        stat = file.stat()
        if not S_ISREG(stat.st_mode):
            raise OSError("it is a pipe, a device or a socket")
    return [str(file.resolve()), stat.st_size, stat.st_mtime_ns]


@contextlib.contextmanager
def _named_if_unreadable(file):
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{file} cannot be read: {error}.",
            "missing rights, a broken link or a damaged file",
            "mend the file or take it away",
        ) from None


def _texts(found, column):
    for file in found:
        reader = READERS.get(file.suffix.lower())
        if reader is None:
            raise DataError(
                f"{file} ends in {file.suffix!r}, which hpt does not read.",
                "another format",
                "save it as one of .txt, .jsonl, .parquet",
            )
        empty = True
        with _named_if_unreadable(file):
            for text in filter(str.strip, reader(file, column)):
                empty = False
                yield _checked(text, file)
        if empty:
            raise DataError(
                f"{file} is empty.", "an interrupted download, or the wrong file", "fill it or take it away"
            )


def _checked(text, file):
    """A text that can be encoded; escapes and columns can hold what no text does."""
    try:
        if "\0" in text:
            raise ValueError("it holds NUL characters")
        text.encode()
    except ValueError as error:
        raise DataError(
            f"A text of {file} is not Unicode text: {error}.",
            "binary data, or half a pair of surrogates",
            "mend it, or take it away",
        ) from None
    return text


def _txt(file, column=""):
    yield _decoded(read_regular(file, follow=True), file)


def _decoded(raw, where):
    """UTF-8 text with \\n at the line ends."""
    try:
        if b"\0" in raw:
            raise ValueError("it holds NUL bytes")
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except ValueError as error:
        raise DataError(
            f"{where} is not UTF-8 text: {error}.",
            "a binary file, or another encoding",
            "save it as UTF-8, for instance with: iconv -f latin1 -t utf-8",
        ) from None


def _jsonl(file, column):
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file}, line {number}"
            if line.strip():
                yield _field(_decoded(line, f"{where},"), column, where)


def _field(line, column, where):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not JSON: {error}.",
            "a file cut short, or not one object a line",
            f'each line like {{"{column}": "…"}}',
        ) from None
    if not isinstance(row, dict):
        raise _no_text(where, "field", column, f"it is a {type(row).__name__}")
    if not isinstance(row.get(column), str):
        raise _no_text(where, "field", column, f"its fields: {', '.join(row)}")
    return row[column]


def _no_text(where, kind, column, has):
    return DataError(
        f"{where} has no text in the {kind} {column!r}.", has, "DataConfig(column='the one with the text')"
    )


def _parquet(file, column):
    with pyarrow.parquet.ParquetFile(file) as table:
        types = {field.name: str(field.type) for field in table.schema_arrow}
        if types.get(column) not in ("string", "large_string", "string_view"):
            has = ", ".join(f"{name} ({kind})" for name, kind in types.items())
            raise _no_text(file, "column", column, f"its columns: {has}")
        for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
            yield from filter(None, batch.column(0).to_pylist())


READERS = {".txt": _txt, ".jsonl": _jsonl, ".parquet": _parquet}


def hub(dataset: str, subset: str | None, split: str, column: str, revision: str | None) -> Corpus:
    """A dataset through Hugging Face ``datasets``, streamed: a name on the hub or a local folder.

    The papers' text is FineWeb-Edu: ``dataset="HuggingFaceFW/fineweb-edu", subset="sample-10BT"``.

    Raises
    ------
    DataError: ``datasets`` is not installed, or the dataset cannot be opened or read.
    """
    asked = {"dataset": dataset, "subset": subset, "split": split}
    local = sorted(filter(Path.is_file, Path(dataset).expanduser().rglob("*")))
    stamps = list(map(_stamp, local))
    return Corpus(
        name=f"dataset {dataset}",
        key=asked | {"column": column, "revision": revision, "files": stamps},
        facts=asked,
        documents=partial(_rows, dataset, subset, split, column, revision),
    )


def _rows(dataset, subset, split, column, revision):
    try:
        import datasets
    except ImportError:
        raise DataError(
            "source='hub' needs the package 'datasets', which is not installed here.",
            "hpt was installed without its optional extra",
            'pip install "hpt[hub]"',
        ) from None
    path = os.path.expanduser(dataset)
    try:
        rows = datasets.load_dataset(path, subset, split=split, revision=revision, streaming=True)
        for row in rows:
            if not isinstance(row.get(column), str):
                has = f"its columns: {', '.join(row)}"
                raise _no_text(f"The dataset {dataset!r}", "column", column, has)
            if row[column].strip():
                yield row[column]
    except DataError:
        raise
    # What a dataset's loader or the network raises has no common base.
    except Exception as error:
        raise DataError(
            f"The dataset {dataset!r} (subset {subset!r}, split {split!r}) cannot be read: {error!r}",
            "a misspelt name, or no network",
            HUB_EXAMPLE,
        ) from error
