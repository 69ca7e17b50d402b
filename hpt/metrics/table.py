"""The table of a sweep, checked: what is missing is reported, what is nonsense is refused by column
and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.columns import LOGARITHMS, is_blank, is_word, named, numbers, plain, require, says, unpivoted
from hpt.metrics.divergence import diverged_runs
from hpt.metrics.loss_units import in_nats
from hpt.metrics.reading import WORDS, read_frame

GROUPS = ("parameterization", "weight_decay")
TRUE = r"true|yes|t|y|1(\.0)?"
FALSE = r"|false|no|f|n|0(\.0)?|nan|none|<na>"
LAST = "last"
KEPT = "fix={'split': 'val', 'step': 'last'}"
#: A column or some, by name; and values of columns.
Columns = str | Sequence[str] | None
Values = Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class SweepTable:
    """A checked sweep.

    Attributes
    ----------
    frame: group columns, the scale column, log2_lr, loss (in `unit`; inf where diverged), seed
        (code, from 0 at each size); sorted.
    group_columns: the columns that tell one group from another.
    scale: the column that grows: "width", or any other measure of size.
    paired: whether seeds are labelled, so that runs of one seed and width share their batches.
    notes: what was left out or assumed, one sentence each.
    unit: of the loss: "nats", or "error" for a share of mistakes.
    """

    frame: pd.DataFrame
    group_columns: tuple[str, ...]
    scale: str
    paired: bool
    notes: tuple[str, ...]
    unit: str = "nats"

    def groups(self) -> Iterator:
        """Each group's key, in the order of `group_columns`, and its rows."""
        if self.group_columns:
            yield from self.frame.groupby(list(self.group_columns))
        else:
            yield (), self.frame

    def curves(self, highest: float) -> Iterator[tuple]:
        """Each group's name by column, and by size its mean losses, at most `highest`, by log2_lr."""
        for key, runs in self.groups():
            losses = runs.groupby([self.scale, "log2_lr"]).loss.mean().clip(upper=highest)
            named = dict(zip(self.group_columns, key, strict=True))
            yield named, {size: losses[size] for size in losses.index.levels[0]}


def read_table(
    table: Any,
    *,
    scale: str = "width",
    by: Columns = None,
    fix: Values = None,
    ignore: Columns = None,
    lr: str | None = None,
    loss: str | None = None,
    loss_unit: str | None = None,
    least_scales: int = 1,
) -> SweepTable:
    """Check the table of a sweep.

    A row needs `scale`, `lr` (or `log2_lr`, `log10_lr`, `ln_lr`) and `loss`, also under the names of
    :mod:`hpt.metrics.columns`. A loss of inf, of text such as 'diverged' or 'nan', a `status` that
    says so, or `diverged` true, is a diverged run: it counts as tried, and so does a finite loss
    beyond a cliff (:mod:`hpt.metrics.divergence`). A blank loss without `diverged` is a missing cell:
    it is left out and noted, and so is a run whose `status` says that it did not end. Repeats without
    a seed count as seeds.

    Parameters
    ----------
    table: whatever :func:`hpt.metrics.reading.read_frame` reads.
    scale: the column that grows.
    by: group columns beside parameterization and weight_decay, in whose place a column dose stands
        where it has fewer values: then the doses were held fixed while the learning rate was swept.
    fix: rows to keep: a column's value, or "last" for the largest of each run, such as
        ``{"split": "val", "step": "last"}``.
    ignore: columns that may differ between runs that count as repeats.
    lr, loss: the columns that hold them, where hpt does not know their names.
    loss_unit: as in :func:`hpt.metrics.loss_units.in_nats`.
    least_scales: how many different scales the table must have.

    Raises
    ------
    TableError: for missing columns, values that are no number, learning rates or scales that are
        not positive, losses below zero, a further column that varies among repeats, duplicate rows
        that disagree, too few scales.
    """
    notes: list[str] = []
    by, ignore = _listed(by), _listed(ignore)
    if not isinstance(scale, str):
        raise TableError(f"scale={scale!r} is no name of a column.", remedy='scale="width"')
    frame = unpivoted(read_frame(table), scale, notes)
    wanted = [scale, "lr", *LOGARITHMS, "loss", *GROUPS, "seed", "diverged", "status"]
    frame, had = named(frame, dict.fromkeys(wanted), {"lr": lr, "loss": loss}, notes)
    for column, base in LOGARITHMS.items():
        if "lr" not in frame and column in frame:
            frame["lr"] = base ** _number(frame, column)
    numeric = [scale, "lr", "loss"]
    require(frame, [*numeric, *by])
    for column in ("diverged", "status"):
        if column not in frame:
            frame[column] = ""
    fix = pd.Series(fix, dtype=object).rename(dict(zip(had.values(), had, strict=True))).to_dict()
    frame = _ended(_fixed(frame, fix, ignore, notes), notes)
    telling = dict.fromkeys((*_held_fixed(frame), *by))
    groups = [column for column in telling if column in frame and column != scale]
    clean = pd.DataFrame({c: _label(frame, c) for c in groups}, index=frame.index)
    for column in numeric:
        clean[column] = _number(frame, column, "size" if column == scale else column)
    clean["loss"] = clean.loss.mask(_diverged(frame), np.inf)
    clean["loss"], unit = in_nats(clean.loss, loss_unit, str(had["loss"]), notes)
    _refuse_out_of_range(clean, scale)
    clean = _without_missing(clean, numeric, notes)
    frame = frame.loc[clean.index]
    cell = [*groups, scale, "lr"]
    kept = [column for column in fix if fix[column] != LAST]
    _refuse_unknown(frame, clean, cell, [*wanted, *by, *ignore, *kept], notes)
    clean, paired = _with_seeds(frame, clean, cell, notes)
    _refuse_few_scales(clean, scale, least_scales)
    clean.insert(len(groups) + 1, "log2_lr", np.round(np.log2(clean.lr), 9))
    order = [*groups, scale, "log2_lr", "seed"]
    clean = clean.drop(columns="lr").sort_values(order, ignore_index=True)
    _refuse_upside_down(clean, [*groups, scale])
    clean["loss"] = clean.loss.mask(_beyond_cliffs(clean, [*groups, scale], notes), np.inf)
    return SweepTable(clean, tuple(groups), scale, paired, tuple(notes), unit)


def _held_fixed(frame):
    """The usual group columns, with the dose of weight decay where λ follows from it."""
    by_dose = {"dose", "weight_decay"} <= set(frame) and frame.dose.nunique() < frame.weight_decay.nunique()
    return ("parameterization", "dose") if by_dose else GROUPS


def _listed(names):
    if isinstance(names, str):
        return [names]
    return list(names or ())


def _fixed(frame, fix, ignore, notes):
    """The rows that have the values asked for; the last of each run where "last" is."""
    for column in sorted(fix, key=lambda column: fix[column] == LAST):
        value = fix[column]
        if column not in frame:
            raise TableError(
                f"fix names column {column!r}, which is not in the table.", did_you_mean(column, frame), KEPT
            )
        said = ""
        if value == LAST:
            kept, said = _last(frame, column, [*fix, *ignore])
        else:
            kept = frame[column].astype(str) == str(value)
            if not kept.any():
                known = frame[column].unique()
                raise TableError(f"No row has {column}={value!r}.", did_you_mean(value, known), KEPT)
        notes.append(f"{kept.sum()} of {len(frame)} row(s) kept: {column} is {value}{said}")
        frame = frame[kept]
    return frame


def _last(frame, column, ignored):
    """The last row of each run that has a loss where any run has one; and what is to be said of runs
    that end at different steps."""
    step = _number(frame, column)
    logged = ~is_blank(frame.loss)
    step = step.where(step.isin(step[logged]))
    run = []
    for other in frame.columns.difference(["loss", "diverged", "status", *ignored]):
        if _is_setting(frame[other]) and not is_word(plain(other), WORDS["clock"]):
            run.append(frame[other])
    kept = step == step.groupby(run, dropna=False).transform("max")
    first, last = step[kept].min(), step[kept].max()
    said = ""
    if first < last:
        said = f", {first:g} to {last:g}"
    return kept, said


def _ended(frame, notes):
    """The rows without those of runs that did not come to their end, unless no run did."""
    stopped = says(frame.status, WORDS["unfinished"]) & np.isfinite(numbers(frame.loss, "loss"))
    stopped &= not stopped.all()
    if stopped.any():
        notes.append(f"{stopped.sum()} run(s) that did not end left out; without their status they count")
    return frame[~stopped]


def _is_setting(values):
    """Whether a column tells settings apart, and does not measure or name each row."""
    known = values.dropna()
    different = known.nunique()
    measured = known.dtype.kind == "f" and different > len(known) / 2
    return not measured and different < max(len(known), 2)


def _refuse_unknown(frame, clean, cell, known, notes):
    """Refuse settings that differ among runs which would count as repeats of one another."""
    others = [c for c in frame if c not in known and not is_word(plain(c), WORDS["measurements"])]
    trained = np.isfinite(clean.loss)
    frame = frame[trained]
    codes = clean[trained].groupby(cell, sort=False).ngroup()
    texts = frame[others].astype(str)
    varying = [c for c in others if texts[c].groupby(codes).nunique().max() > 1]
    refused = [c for c in varying if _is_setting(frame[c])]
    measured = [c for c in varying if c not in refused]
    if refused:
        first = refused[0]
        values = frame[first].dropna().unique()
        kept = values.tolist()[-1]
        if is_word(plain(first), WORDS["clock"]):
            kept = LAST
        raise TableError(
            f"Column {', '.join(map(repr, refused))} varies {values[:4].tolist()} among runs of the same "
            f"{', '.join(cell)}.",
            "such runs would be taken for repeats of one setting",
            f"by={refused!r} makes groups of them, fix={{{first!r}: {kept!r}}} keeps some, "
            f"ignore={refused!r} takes them for repeats",
        )
    if measured:
        notes.append(f"column(s) {measured} differ in every row: taken for measurements")


def _number(frame, column, of=""):
    """The column as floats; blank cells are nan, other text is refused. `of`: as for
    :func:`hpt.metrics.columns.numbers`."""
    raw = frame[column]
    found = numbers(raw, of)
    remedy = f"table[{column!r}] = pd.to_numeric(table[{column!r}], errors='coerce')"
    _refuse(frame, column, found.isna() & ~is_blank(raw), "is not a number", remedy)
    return found


def _label(frame, column):
    """A group column: as it is where it holds numbers, else as text."""
    values = frame[column]
    remedy = f"table.dropna(subset=[{column!r}]), or fill the label in"
    _refuse(frame, column, values.isna(), "is missing", remedy)
    return values if values.dtype.kind in "fiub" else values.astype(str)


def _diverged(frame):
    """Which runs are marked as diverged."""
    diverged = says(frame.diverged, TRUE)
    unclear = ~(diverged | says(frame.diverged, FALSE, missing=True))
    remedy = "table['diverged'] = table['loss'].isin([inf])"
    _refuse(frame, "diverged", unclear, "is neither true nor false", remedy)
    return diverged | says(frame.status, WORDS["diverged"])


def _beyond_cliffs(clean, cells, notes):
    """Which runs have a finite loss though they diverged."""
    found = np.zeros(len(clean), bool)
    for rows in clean.groupby(cells, sort=False).indices.values():
        part = clean.iloc[rows]
        found[rows] = diverged_runs(part.log2_lr.to_numpy(), part.loss.to_numpy())
    if found.any():
        least = clean.loss[found].min()
        notes.append(f"{found.sum()} run(s) with losses from {least:.4g} beyond a cliff taken for diverged")
    return found


def _refuse_out_of_range(clean, scale):
    for column in (scale, "lr"):
        bad = (clean[column] <= 0) | np.isinf(clean[column])
        remedy = f"table[table[{column!r}] > 0]; log2 values belong in a column log2_lr"
        _refuse(clean, column, bad, "is not a positive, finite number", remedy)
    remedy = "give the loss in nats a token; inf where a run diverged"
    _refuse(clean, "loss", clean.loss < 0, "is below zero", remedy)


def _refuse_upside_down(clean, cells):
    """Refuse what is best where it is highest: accuracies taken for losses."""
    if clean.loss.max() > 100:
        return
    means = clean.groupby([*cells, "log2_lr"]).loss.mean().groupby(cells)
    basin = means.agg(["first", "last", "min", "max", "size"])
    ends = basin[["first", "last"]]
    upside_down = (basin["max"] > ends.max(axis=1)) & (basin["min"] == ends.min(axis=1))
    if basin["size"].min() >= 4 and len(basin) > 1 and upside_down.mean() > 0.8:
        raise TableError(
            "Column 'loss' is highest between the learning rates tried, at nearly every size.",
            "it is an accuracy: higher is better",
            "loss_unit='accuracy'",
        )


def _refuse(frame, column, bad, why, remedy):
    """Raise TableError for the first bad row."""
    if bad.any():
        value, *_ = frame.loc[bad, column].tolist()
        where = f"Column {column!r}, row {bad.idxmax()}"
        raise TableError(f"{where}: {value!r} {why} ({bad.sum()} such row(s)).", remedy=remedy)


def _without_missing(clean, columns, notes):
    for column in columns:
        missing = clean[column].isna().sum()
        if missing:
            notes.append(f"{missing} row(s) without {column} left out as missing")
            if column == "loss":
                notes[-1] += "; where a run diverged, set loss to inf or diverged to True"
        clean = clean.dropna(subset=column)
    return clean


def _with_seeds(frame, clean, cell, notes):
    """The rows with a code for each seed, from 0 at each size, and whether the labels pair runs.

    Labels that hardly any two runs of a size share tell no more than that there are repeats.
    """
    *_, scale, _ = cell
    paired = "seed" in frame and frame.seed.notna().all()
    if paired:
        clean = clean.assign(seed=pd.factorize(frame.seed.astype(str), sort=True)[0])
        clean = _without_repeats(clean, [*cell, "seed"], notes)
        sharing = clean.duplicated([scale, "seed"], keep=False).mean()
        paired = bool(sharing > 0.5) or len(clean) == 1
        if not paired:
            notes.append("hardly any two runs share a seed: taken for runs without seeds")
    if paired:
        codes = clean.groupby(scale).seed.rank(method="dense").astype(int) - 1
    else:
        clean = clean.sort_values("loss", kind="stable")
        codes = clean.groupby(cell).cumcount()
    return clean.assign(seed=codes), paired


def _without_repeats(clean, cell, notes):
    """Drop rows that repeat a run; refuse rows that claim to be one run and disagree."""
    clash = clean.groupby(cell).loss.transform("nunique") > 1
    if clash.any():
        run = clean.loc[clash, cell].iloc[0]
        rows = clean[(clean[cell] == run).all(axis=1)]
        raise TableError(
            f"Column 'loss', rows {list(rows.index)}: {list(rows.loss)} disagree, all with {run.to_dict()}.",
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
