"""The table of a sweep, checked: what is missing is reported, what is nonsense is refused by column
and row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean

GROUPS = ("parameterization", "weight_decay")
READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".pq": pd.read_parquet}
TRUE = r"(?i)\s*(true|1(\.0)?)\s*"
FALSE = r"(?i)\s*(|false|0(\.0)?|nan|none|<na>)\s*"


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

    def groups(self) -> Iterator:
        """Each group's key, in the order of `group_columns`, and its rows."""
        if self.group_columns:
            yield from self.frame.groupby(list(self.group_columns), sort=True)
        else:
            yield (), self.frame


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
    out and noted. Repeats without a seed count as seeds.

    Parameters
    ----------
    table: a DataFrame, or the path of a .csv or .parquet file.
    scale: the column that grows.
    by: group columns beside parameterization and weight_decay, in whose place a column dose stands
        where it has fewer values: then the doses were held fixed while the learning rate was swept.
    least_scales: how many different scales the table must have.

    Raises
    ------
    TableError: for missing columns, values that are no number, learning rates or scales that are
        not positive, losses below zero, duplicate rows that disagree, too few scales.
    """
    frame = _load(table)
    by = [by] if isinstance(by, str) else list(by or ())
    if "lr" not in frame and "log2_lr" in frame:
        frame["lr"] = 2.0 ** _number(frame, "log2_lr")
    numeric = [scale, "lr", "loss"]
    _require(frame, [*numeric, *by])
    named = [c for c in _held_fixed(frame) if c in frame and c != scale]
    groups = list(dict.fromkeys(named + by))
    clean = pd.DataFrame({c: _label(frame, c) for c in groups}, index=frame.index)
    for column in numeric:
        clean[column] = _number(frame, column)
    clean["loss"] = clean.loss.mask(_diverged(frame), np.inf)
    _refuse_out_of_range(clean, scale)
    notes: list[str] = []
    clean = _without_missing(clean, numeric, notes)
    cell = [*groups, scale, "lr"]
    paired = "seed" in frame and frame.seed[clean.index].notna().all()
    if paired:
        clean = clean.assign(seed=frame.seed.astype(str))
        clean = _without_repeats(clean, [*cell, "seed"], notes)
        codes, _ = pd.factorize(clean.seed, sort=True)
    else:
        clean = clean.sort_values("loss", kind="stable")
        codes = clean.groupby(cell).cumcount()
    clean = clean.assign(seed=codes)
    _refuse_few_scales(clean, scale, least_scales)
    clean.insert(len(groups) + 1, "log2_lr", np.round(np.log2(clean.lr), 9))
    order = [*groups, scale, "log2_lr", "seed"]
    clean = clean.drop(columns="lr").sort_values(order, ignore_index=True)
    return SweepTable(clean, tuple(groups), scale, paired, tuple(notes))


def _held_fixed(frame):
    """The usual group columns, with the dose of weight decay where λ follows from it."""
    by_dose = {"dose", "weight_decay"} <= set(frame) and frame.dose.nunique() < frame.weight_decay.nunique()
    return ("parameterization", "dose") if by_dose else GROUPS


def _load(table):
    if isinstance(table, pd.DataFrame):
        return table.copy() if table.index.is_unique else table.reset_index(drop=True)
    path = Path(table)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(
            f"Cannot read '{path}' as a table.",
            f"its ending is {path.suffix!r}",
            "a .csv or .parquet file, or a pandas DataFrame",
        )
    if not path.is_file():
        raise TableError(f"There is no file '{path}'.", "a misspelt path", f"ls {path.parent}")
    try:
        return reader(path)
    except (ValueError, OSError) as error:
        raise TableError(
            f"Cannot read '{path}': {error}",
            "the file is empty or damaged",
            "write it again with DataFrame.to_csv or to_parquet",
        ) from None


def _require(frame, columns):
    for column in columns:
        if column not in frame:
            raise TableError(
                f"The table has no column {column!r}.",
                did_you_mean(column, frame) if len(frame.columns) else "the table is empty",
                f"table.rename(columns={{…: {column!r}}})",
            )


def _number(frame, column):
    """The column as floats; blank cells are nan, other text is refused."""
    raw = frame[column]
    numbers = pd.to_numeric(raw, errors="coerce").astype(float)
    blank = raw.isna() | (raw.astype(str).str.strip() == "")
    remedy = f"table[{column!r}] = pd.to_numeric(table[{column!r}], errors='coerce')"
    _refuse(frame, column, numbers.isna() & ~blank, "is not a number", remedy)
    return numbers


def _label(frame, column):
    """A group column: as it is where it holds numbers, else as text."""
    values = frame[column]
    remedy = f"table.dropna(subset=[{column!r}]), or fill the label in"
    _refuse(frame, column, values.isna(), "is missing", remedy)
    return values if values.dtype.kind in "fiub" else values.astype(str)


def _diverged(frame):
    """Which runs are marked as diverged."""
    if "diverged" not in frame:
        return pd.Series(False, index=frame.index)
    text = frame.diverged.astype(object).map(str)
    diverged = text.str.fullmatch(TRUE)
    unclear = ~(diverged | text.str.fullmatch(FALSE))
    remedy = "table['diverged'] = table['loss'].isin([inf])"
    _refuse(frame, "diverged", unclear, "is neither true nor false", remedy)
    return diverged


def _refuse_out_of_range(clean, scale):
    for column in (scale, "lr"):
        bad = (clean[column] <= 0) | np.isinf(clean[column])
        remedy = f"table[table[{column!r}] > 0]; log2 values belong in a column log2_lr"
        _refuse(clean, column, bad, "is not a positive, finite number", remedy)
    remedy = "give the loss in nats a token; inf where a run diverged"
    _refuse(clean, "loss", clean.loss < 0, "is below zero", remedy)


def _refuse(frame, column, bad, why, remedy):
    """Raise TableError for the first bad row."""
    if bad.any():
        value, *_ = frame.loc[bad, column].tolist()
        where = f"Column {column!r}, row {bad.idxmax()}"
        raise TableError(f"{where}: {value!r} {why} ({bad.sum()} such row(s)).", "", remedy)


def _without_missing(clean, columns, notes):
    for column in columns:
        missing = clean[column].isna().sum()
        if missing:
            notes.append(f"{missing} row(s) without {column} left out as missing")
            if column == "loss":
                notes[-1] += "; where a run diverged, set loss to inf or diverged to True"
        clean = clean.dropna(subset=column)
    return clean


def _without_repeats(clean, cell, notes):
    """Drop rows that repeat a run; refuse rows that claim to be one run and disagree."""
    repeated = clean[clean.duplicated(cell, keep=False)]
    for key, losses in repeated.groupby(cell).loss:
        if losses.nunique() > 1:
            where = ", ".join(f"{c}={v}" for c, v in zip(cell, key, strict=True))
            raise TableError(
                f"Column 'loss', rows {list(losses.index)}: {list(losses)} disagree, all with {where}.",
                "the runs differ in a setting that is no group column, or share a seed by mistake",
                "by=[…, 'the_setting'], or give each run its own seed",
            )
    repeats = clean.duplicated(cell).sum()
    if repeats:
        notes.append(f"{repeats} row(s) that repeat another left out")
    return clean.drop_duplicates(cell)


def _refuse_few_scales(clean, scale, least):
    found = clean[scale].nunique()
    if found < least:
        raise TableError(
            f"Column {scale!r} has {found} different value(s) in {len(clean)} usable row(s).",
            "transfer is a statement about growing size, and needs at least two sizes",
            f"train at another {scale}, or name the column that grows: "
            "transfer_report(table, scale=…); hpt.basins(table) takes a single one",
        )
