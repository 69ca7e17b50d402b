"""The table of a sweep, checked: what is missing is reported, what is nonsense is refused by column
and row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean

GROUPS = ("parameterization", "weight_decay")


@dataclass(frozen=True, eq=False)
class SweepTable:
    """A checked sweep.

    Attributes
    ----------
    frame: group columns, the scale column, log2_lr, loss (nats; inf where diverged), seed (code);
        sorted.
    group_columns: the columns that tell one group from another.
    scale: the column that grows: "width", or any other measure of size.
    paired: whether seeds are labelled, so that runs of one seed and width share their batches.
    notes: what was left out or assumed, one sentence each.
    """

    frame: pd.DataFrame
    group_columns: tuple[str, ...]
    scale: str
    paired: bool
    notes: tuple[str, ...]

    def groups(self) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
        """Each group's key, in the order of `group_columns`, and its rows."""
        if not self.group_columns:
            yield (), self.frame
            return
        yield from self.frame.groupby(list(self.group_columns), sort=True)


def read_table(
    table: pd.DataFrame | str | Path,
    *,
    scale: str = "width",
    by: str | Sequence[str] | None = None,
    least_scales: int = 1,
) -> SweepTable:
    """Check the table of a sweep.

    A row needs `scale`, `lr` (or `log2_lr`) and `loss`. A loss of inf, or `diverged` true, is a
    diverged run: it counts as tried. A loss of nan without `diverged` is a missing cell: it is left
        out and noted. Repeats without a
    seed count as seeds.

    Parameters
    ----------
    table: a DataFrame, or the path of a .csv or .parquet file.
    scale: the column that grows.
    by: group columns beside parameterization and weight_decay.
    least_scales: how many different scales the table must have.

    Raises
    ------
    TableError: for missing columns, values that are no number, learning rates or scales that are
        not positive, losses below zero, duplicate rows that disagree, too few scales.
    """
    frame = _load(table)
    by = (by,) if isinstance(by, str) else tuple(by or ())
    if "lr" not in frame and "log2_lr" in frame:
        frame["lr"] = 2.0 ** _number(frame, "log2_lr")
    for column in (scale, "lr", "loss", *by):
        if column not in frame:
            raise TableError(
                f"The table has no column {column!r}; it has {list(map(str, frame.columns))}.",
                did_you_mean(column, frame.columns) if len(frame.columns) else "the table is empty",
                f"table.rename(columns={{…: {column!r}}})",
            )
    groups = tuple(dict.fromkeys([c for c in GROUPS if c in frame and c != scale] + list(by)))
    notes: list[str] = []
    clean = pd.DataFrame({c: _label(frame, c) for c in groups}, index=frame.index)
    for column in (scale, "lr", "loss"):
        clean[column] = _number(frame, column)
    clean["loss"] = clean.loss.mask(_flag(frame), np.inf)
    for column in (scale, "lr"):
        _refuse(
            clean,
            column,
            (clean[column] <= 0) | np.isinf(clean[column]),
            "is not a positive, finite number",
            f"table[table[{column!r}] > 0]; log2 values belong in a column log2_lr",
        )
    _refuse(
        clean,
        "loss",
        clean.loss < 0,
        "is below zero",
        "give the loss in nats a token; inf where a run diverged",
    )
    for column in (scale, "lr", "loss"):
        missing = clean[column].isna()
        if missing.any():
            hint = (
                "; where a run diverged, set loss to inf or diverged to True"
                if column == "loss"
                else ""
            )
            notes.append(f"{missing.sum()} row(s) without {column} left out as missing{hint}")
            clean = clean[~missing]
    paired = "seed" in frame and not frame.loc[clean.index, "seed"].isna().any()
    if paired:
        clean["seed"] = frame.loc[clean.index, "seed"].astype(str)
        clean = _drop_repeats(clean, [*groups, scale, "lr", "seed"], by, notes)
        clean["seed"] = pd.factorize(clean.seed, sort=True)[0]
    else:
        clean = clean.sort_values("loss", kind="stable")
        clean["seed"] = clean.groupby([*groups, scale, "lr"], sort=False).cumcount()
    if clean[scale].nunique() < least_scales:
        raise TableError(
            f"Column {scale!r} has {clean[scale].nunique()} different value(s) in {len(clean)} usable "
            "row(s).",
            "transfer is a statement about growing size, and needs at least two sizes",
            f"train at another {scale}, or name the column that grows: transfer_report(table, scale=…); "
            "hpt.basins(table) takes a single one",
        )
    clean.insert(len(groups) + 1, "log2_lr", np.round(np.log2(clean.lr), 9))
    clean = clean.drop(columns="lr").sort_values(
        [*groups, scale, "log2_lr", "seed"], ignore_index=True
    )
    return SweepTable(clean, groups, scale, paired, tuple(notes))


def _load(table) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table.copy() if table.index.is_unique else table.reset_index(drop=True)
    path = Path(table)
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".pq": pd.read_parquet}
    if path.suffix.lower() not in readers:
        raise TableError(
            f"Cannot read {str(path)!r} as a table.",
            f"its ending is {path.suffix!r}",
            "a .csv or .parquet file, or a pandas DataFrame",
        )
    if not path.is_file():
        raise TableError(f"There is no file {str(path)!r}.", "a misspelt path", f"ls {path.parent}")
    try:
        return readers[path.suffix.lower()](path)
    except (ValueError, OSError) as error:
        raise TableError(
            f"Cannot read {str(path)!r}: {error}",
            "the file is empty or damaged",
            "write it again with DataFrame.to_csv or to_parquet",
        ) from None


def _number(frame: pd.DataFrame, column: str) -> pd.Series:
    """The column as floats; blank cells are nan, other text is refused."""
    raw = frame[column]
    if raw.dtype.kind not in "fiu":
        raw = raw.map(lambda v: None if isinstance(v, str) and not v.strip() else v)
    numbers = pd.to_numeric(raw, errors="coerce").astype(float)
    _refuse(
        frame,
        column,
        numbers.isna() & ~raw.isna(),
        "is not a number",
        f"table[{column!r}] = pd.to_numeric(table[{column!r}], errors='coerce')",
    )
    return numbers


def _label(frame: pd.DataFrame, column: str) -> pd.Series:
    values = frame[column]
    _refuse(
        frame,
        column,
        values.isna(),
        "is missing",
        f"table.dropna(subset=[{column!r}]), or fill the label in",
    )
    return values if values.dtype.kind in "fiub" else values.astype(str)


def _flag(frame: pd.DataFrame) -> pd.Series:
    """Which runs are marked as diverged."""
    if "diverged" not in frame:
        return pd.Series(False, index=frame.index)
    known = {
        "true": True,
        "1": True,
        "1.0": True,
        "false": False,
        "0": False,
        "0.0": False,
        "": False,
        "nan": False,
        "none": False,
        "<na>": False,
    }
    text = frame.diverged.astype(object).map(lambda v: str(v).strip().lower())
    _refuse(
        frame,
        "diverged",
        ~text.isin(known),
        "is neither true nor false",
        "table['diverged'] = table['loss'].isin([inf])",
    )
    return text.map(known).astype(bool)


def _refuse(frame: pd.DataFrame, column: str, bad: pd.Series, why: str, remedy: str) -> None:
    """Raise TableError for the first bad row."""
    if bad.any():
        row = bad.idxmax()
        value = frame.loc[row, column]
        shown = repr(value) if isinstance(value, str) else str(value)
        raise TableError(
            f"Column {column!r}, row {row}: {shown} {why} ({int(bad.sum())} such row(s)).",
            "",
            remedy,
        )


def _drop_repeats(
    clean: pd.DataFrame, cell: list[str], by: tuple[str, ...], notes: list[str]
) -> pd.DataFrame:
    """Drop rows that repeat a run; refuse rows that claim to be one run and disagree."""
    repeated = clean.duplicated(cell, keep=False)
    if not repeated.any():
        return clean
    spread = clean[repeated].groupby(cell).loss.agg(lambda v: v.nunique() > 1)
    if spread.any():
        key = spread.index[spread.to_numpy().argmax()]
        rows = clean.index[(clean[cell] == list(key)).all(axis=1)].tolist()
        where = ", ".join(f"{c}={v}" for c, v in zip(cell, key, strict=True))
        raise TableError(
            f"Column 'loss', rows {rows}: {clean.loc[rows, 'loss'].tolist()} disagree, all with {where}.",
            "the runs differ in a setting that is no group column, or share a seed by mistake",
            f"by={[*by, 'the_setting']!r}, or give each run its own seed",
        )
    kept = clean[~clean.duplicated(cell)]
    notes.append(f"{len(clean) - len(kept)} row(s) that repeat another left out")
    return kept
