"""Where documents come from: installed packages, the user's own files, or a dataset hub."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow
import pyarrow.parquet

from hpt.errors import DataError

SUFFIXES = (".txt", ".jsonl", ".parquet")
SHUFFLE_SEED = "hpt 0"

# Compared once over the wheels of Linux (x86-64, arm64), macOS (arm64) and Windows, CPython 3.11 to
# 3.13: these names are written when the package is built; a package's first __init__.py is patched
# on Windows;
# numpy.distutils is shipped for Python 3.11 only.
GENERATED = {
    "version.py",
    "_version.py",
    "_version_meson.py",
    "__config__.py",
    "_distributor_init.py",
}


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
    versions = {name: distribution.version for name, distribution in found.items()}
    records = {
        name: _digest(distribution.read_text("RECORD") or "")
        for name, distribution in found.items()
    }

    def documents() -> Iterator[str]:
        paths = {
            file.as_posix(): file.locate()
            for distribution in found.values()
            for file in distribution.files
            if is_stable_source(file)
        }
        for name in shuffled(paths):
            if text := _read(Path(paths[name])):
                yield text

    # a local version label ("2.13.0+cpu") names a build, not a source
    public = {name: version.split("+")[0] for name, version in versions.items()}
    return Corpus(
        "installed packages (" + ", ".join(found) + ")",
        {"versions": versions, "records": records},
        {"packages": public},
        documents,
    )


def shuffled(names: Iterable[str]) -> list[str]:
    """The names in a random order that depends on nothing but the names: that of their salted
    SHA-256."""
    return sorted(names, key=lambda name: _digest(f"{SHUFFLE_SEED} {name}"))


def is_stable_source(file: PurePath) -> bool:
    """Whether ``file`` (relative to site-packages) is a Python source that is the same on every
    platform."""
    if file.suffix != ".py" or file.is_absolute() or ".." in file.parts or file.name in GENERATED:
        return False
    return file.parts[:2] != ("numpy", "distutils") and not (
        len(file.parts) == 2 and file.name == "__init__.py"
    )


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"source='installed' needs the package {name!r}, which is not installed here.",
            "an environment that was not made from the lock file",
            f"pip install {name}, or DataConfig(packages=(…)) with packages that you have",
        ) from None
    if ".py," not in (distribution.read_text("RECORD") or ""):
        raise DataError(
            f"The package {name!r} lists no Python sources among its files.",
            "an editable installation, or one without a RECORD",
            f"pip install --force-reinstall {name}, or DataConfig(packages=(…)) without it",
        )
    return distribution


def files(path: str, column: str = "text") -> Corpus:
    """The user's own text: a .txt, .jsonl or .parquet file, or a folder of these, searched to any
    depth.

    A .txt file is one document; a line of .jsonl has its text in the field ``column``, a row of
    .parquet in the column of that name. Rows with an empty text are skipped; an empty file is an
    error.

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
    found = [root] if root.is_file() else _text_files(root)
    if not found:
        raise DataError(
            f"The folder {path!r} holds no text that can be read.",
            "other formats: "
            + ", ".join(
                sorted({f.suffix or f.name for f in root.iterdir()})[:8] or ["the folder is empty"]
            ),
            f"put files that end in {', '.join(SUFFIXES)} there",
        )
    stats = [
        (str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns)
        for file in map(_readable, found)
    ]

    def documents() -> Iterator[str]:
        for file in found:
            yield from _documents_of(file, column)

    return Corpus(
        str(path),
        {"files": stats, "column": column},
        {"path": str(path), "files": len(found)},
        documents,
    )


def _text_files(root: Path) -> list[Path]:
    paths = {
        file.relative_to(root).as_posix(): file
        for file in root.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.is_dir()
    }
    return [
        paths[name]
        for name in shuffled(paths)
        if not any(part.startswith(".") for part in name.split("/"))
    ]


def _readable(file: Path) -> Path:
    try:
        with file.open("rb"):
            return file
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read: {error}.",
        "missing rights, a broken link or a damaged file",
        "mend the file or take it away",
    )


def _documents_of(file: Path, column: str) -> Iterator[str]:
    readers = {
        ".txt": lambda: iter([_read(file)]),
        ".jsonl": lambda: _jsonl(file, column),
        ".parquet": lambda: _parquet(file, column),
    }
    if file.suffix.lower() not in readers:
        raise DataError(
            f"{file} ends in {file.suffix!r}, which hpt does not read.",
            "another format",
            f"save it as one of {', '.join(SUFFIXES)}",
        )
    some = False
    for text in readers[file.suffix.lower()]():
        if text.strip():
            some = True
            yield text
    if not some:
        raise DataError(
            f"{file} is empty.",
            "an interrupted download, or the wrong file",
            "fill it or take it away",
        )


def _read(file: Path) -> str:
    try:
        return _decode(file.read_bytes(), str(file))
    except OSError as error:
        raise _unreadable(file, error) from None


def _decode(raw: bytes, where: str) -> str:
    """UTF-8 text with \\n at the line ends; ``where`` names file and line in the error."""
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


def _jsonl(file: Path, column: str) -> Iterator[str]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _row(
                        _decode(line, f"{file}, line {number},"), f"{file}, line {number}", column
                    )
    except OSError as error:
        raise _unreadable(file, error) from None


def _row(line: str, where: str, column: str) -> str:
    example = f'each line like {{"{column}": "…"}}'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"{where} is not JSON: {error}.", "a file cut short, or not one object a line", example
        ) from None
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        has = (
            f"its fields: {', '.join(row)}"
            if isinstance(row, dict)
            else f"it is a {type(row).__name__}"
        )
        raise DataError(
            f"{where} has no text in the field {column!r}.",
            has,
            f"{example}, or DataConfig(column=…)",
        )
    return row[column]


def _parquet(file: Path, column: str) -> Iterator[str]:
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            field = table.schema_arrow.field(column) if column in table.schema_arrow.names else None
            if field is None or not _is_text(field.type):
                raise DataError(
                    f"{file} has no text in the column {column!r}.",
                    f"its columns: {', '.join(f'{f.name} ({f.type})' for f in table.schema_arrow)}",
                    "DataConfig(source='files', path=…, column='the one with the text')",
                )
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(file, error) from None


def _is_text(kind: pyarrow.DataType) -> bool:
    return (
        pyarrow.types.is_string(kind)
        or pyarrow.types.is_large_string(kind)
        or pyarrow.types.is_string_view(kind)
    )


def hub(dataset: str, subset: str | None, split: str, column: str, revision: str | None) -> Corpus:
    """A dataset through Hugging Face ``datasets``, streamed: a name on the hub or a local folder.

    The papers' text is FineWeb-Edu: ``dataset="HuggingFaceFW/fineweb-edu", subset="sample-10BT"``.

    Raises
    ------
    DataError: ``datasets`` is not installed, or the dataset cannot be opened or read.
    """
    folder = Path(dataset).expanduser()
    local = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    key = {
        "dataset": dataset,
        "subset": subset,
        "split": split,
        "column": column,
        "revision": revision,
        "files": [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in local],
    }

    def documents() -> Iterator[str]:
        try:
            import datasets
        except ImportError:
            raise DataError(
                "source='hub' needs the package 'datasets', which is not installed here.",
                "hpt was installed without its optional extra",
                'pip install "hpt[hub]"',
            ) from None
        try:
            rows = datasets.load_dataset(
                str(folder) if local else dataset,
                subset,
                split=split,
                revision=revision,
                streaming=True,
            )
            for row in rows:
                if not isinstance(row.get(column), str):
                    raise DataError(
                        f"The dataset {dataset!r} has no text in the column {column!r}.",
                        f"its columns: {', '.join(row)}",
                        "DataConfig(source='hub', column=…)",
                    )
                if row[column].strip():
                    yield row[column]
        except DataError:
            raise
        except (
            Exception
        ) as error:  # what a dataset's loader or the network raises has no common base
            raise DataError(
                f"The dataset {dataset!r} (subset {subset!r}, split {split!r}) cannot be read: "
                f"{type(error).__name__}: {error}",
                "a misspelt name, or no network",
                "DataConfig(source='hub', dataset='HuggingFaceFW/fineweb-edu', subset='sample-10BT', "
                "max_tokens=100_000_000)",
            ) from error

    return Corpus(
        f"dataset {dataset}", key, {"dataset": dataset, "subset": subset, "split": split}, documents
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
