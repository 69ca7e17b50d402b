"""The table of a sweep, checked: what is missing is reported, what is nonsense is refused by column
and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.columns import is_blank, named, numbers, require, unpivoted
from hpt.metrics.divergence import diverged_runs
from hpt.metrics.loss_units import in_nats
from hpt.metrics.reading import read_frame

GROUPS = ("parameterization", "weight_decay")
TRUE = r"(?i)\s*(true|yes|1(\.0)?)\s*"
FALSE = r"(?i)\s*(|false|no|0(\.0)?|nan|none|<na>)\s*"
LAST = "last"
STEPS = ("step", "epoch", "iter", "tokens")

#: What a run measured, or is called by: no setting that could tell runs apart.
MEASUREMENTS = frozenset(
    "seconds runtime duration timestamp date started finished created tokens_per_second throughput "
    "run_id id name host hostname device precision state status origin".split()
)


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
            yield from self.frame.groupby(list(self.group_columns), sort=True)
        else:
            yield (), self.frame


def read_table(
    table: Any,
    *,
    scale: str = "width",
    by: str | Sequence[str] | None = None,
    fix: Mapping[str, Any] | None = None,
    ignore: str | Sequence[str] | None = None,
    lr: str | None = None,
    loss: str | None = None,
    loss_unit: str | None = None,
    least_scales: int = 1,
) -> SweepTable:
    """Check the table of a sweep.

    A row needs `scale`, `lr` (or `log2_lr`) and `loss`, also under the names of
    :mod:`hpt.metrics.columns`. A loss of inf, of text such as 'diverged' or 'nan', or `diverged`
    true, is a diverged run: it counts as tried, and so does a finite loss beyond a cliff
    (:mod:`hpt.metrics.divergence`). A blank loss without `diverged` is a missing cell: it is left
    out and noted. Repeats without a seed count as seeds.

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
    wanted = [scale, "lr", "log2_lr", "loss"]
    for column in (*GROUPS, "seed", "diverged"):
        if column != scale:
            wanted.append(column)
    frame, had = named(frame, wanted, {"lr": lr, "loss": loss}, notes)
    if "lr" not in frame and "log2_lr" in frame:
        frame["lr"] = 2.0 ** _number(frame, "log2_lr")
    numeric = [scale, "lr", "loss"]
    require(frame, [*numeric, *by])
    frame = _fixed(frame, dict(fix or {}), notes)
    groups = []
    for column in (*_held_fixed(frame), *by):
        if column in frame and column != scale and column not in groups:
            groups.append(column)
    clean = pd.DataFrame({c: _label(frame, c) for c in groups}, index=frame.index)
    for column in numeric:
        clean[column] = _number(frame, column)
    clean["loss"] = clean.loss.mask(_diverged(frame), np.inf)
    clean["loss"], unit = in_nats(clean.loss, loss_unit, str(had["loss"]), notes)
    _refuse_out_of_range(clean, scale)
    clean = _without_missing(clean, numeric, notes)
    frame = frame.loc[clean.index]
    cell = [*groups, scale, "lr"]
    _refuse_unknown(frame, clean, cell, [*wanted, *by, *ignore, *(fix or {})], notes)
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


def _fixed(frame, fix, notes):
    """The rows that have the values asked for; the last of each run where "last" is."""
    for column in sorted(fix, key=lambda column: fix[column] == LAST):
        if column not in frame:
            raise TableError(
                f"fix names column {column!r}, which is not in the table.",
                did_you_mean(column, frame),
                "fix={'split': 'val', 'step': 'last'}",
            )
        if fix[column] == LAST:
            step = _number(frame, column)
            run = []
            for other in frame.columns.difference(["loss", "diverged", *fix]):
                if _is_setting(frame[other]):
                    run.append(frame[other])
            kept = step == step.groupby(run, dropna=False).transform("max")
        else:
            kept = frame[column].astype(str) == str(fix[column])
            if not kept.any():
                known = frame[column].astype(str).unique()[:20]
                raise TableError(
                    f"No row has {column}={fix[column]!r}.",
                    did_you_mean(fix[column], known),
                    f"fix={{{column!r}: {known[0]!r}}}",
                )
        notes.append(f"{kept.sum()} of {len(frame)} row(s) kept: {column} is {fix[column]}")
        frame = frame[kept]
    return frame


def _plain_name(column):
    """A column's name without its prefix: "summary/_runtime" → "runtime"."""
    return str(column).lower().rpartition("/")[2].lstrip("_")


def _is_setting(values):
    """Whether a column tells settings apart, and does not measure or name each row."""
    known = values.dropna()
    different = known.nunique()
    measured = known.dtype.kind == "f" and different > len(known) / 2
    return not measured and different < max(len(known), 2)


def _refuse_unknown(frame, clean, cell, known, notes):
    """Refuse settings that differ among runs which would count as repeats of one another."""
    others = [c for c in frame if c not in known and _plain_name(c) not in MEASUREMENTS]
    trained = np.isfinite(clean.loss)
    frame = frame[trained]
    codes = clean[trained].groupby(cell, sort=False).ngroup()
    refused = []
    measured = []
    for column in others:
        different = frame[column].astype(str).groupby(codes).nunique()
        if different.max() > 1:
            (refused if _is_setting(frame[column]) else measured).append(column)
    if refused:
        first = refused[0]
        values = frame[first].dropna().unique()
        shown = ", ".join(map(str, values[:4]))
        kept = values.tolist()[-1]
        for word in STEPS:
            if word in str(first).lower():
                kept = LAST
        raise TableError(
            f"Column {', '.join(map(repr, refused))} varies ({shown}, …) among runs of the same "
            f"{', '.join(cell)}.",
            "such runs would be taken for repeats of one setting",
            f"by={refused!r} makes groups of them, fix={{{first!r}: {kept!r}}} keeps some, "
            f"ignore={refused!r} takes them for repeats",
        )
    if measured:
        names = ", ".join(map(str, measured))
        notes.append(f"column(s) {names} differ in every row: taken for measurements")


def _number(frame, column):
    """The column as floats; blank cells are nan, other text is refused."""
    raw = frame[column]
    found = numbers(raw, diverged_text=column == "loss")
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
    if "diverged" not in frame:
        return pd.Series(False, index=frame.index)
    if frame.diverged.dtype.kind == "b":
        return frame.diverged
    text = frame.diverged.astype(object).map(str)
    diverged = text.str.fullmatch(TRUE)
    unclear = ~(diverged | text.str.fullmatch(FALSE))
    remedy = "table['diverged'] = table['loss'].isin([inf])"
    _refuse(frame, "diverged", unclear, "is neither true nor false", remedy)
    return diverged


def _beyond_cliffs(clean, cells, notes):
    """Which runs have a finite loss though they diverged."""
    found = np.zeros(len(clean), bool)
    for rows in clean.groupby(cells, sort=False).indices.values():
        part = clean.iloc[rows]
        found[rows] = diverged_runs(part.log2_lr.to_numpy(), part.loss.to_numpy())
    if found.any():
        losses = clean.loss[found]
        notes.append(
            f"{found.sum()} run(s) with losses of {losses.min():.4g} to {losses.max():.4g} beyond a cliff "
            "taken for diverged"
        )
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
    inner = means.agg(lambda loss: 0 < loss.to_numpy().argmax() < len(loss) - 1)
    ends = means.agg(lambda loss: loss.to_numpy().argmin() in (0, len(loss) - 1))
    telling = means.size().min() >= 4 and len(inner) > 1
    upside_down = inner & ends
    if telling and upside_down.mean() > 0.8:
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
    repeated = clean[clean.duplicated(cell, keep=False)]
    if len(repeated):
        clash = repeated[repeated.groupby(cell).loss.transform("nunique") > 1]
        if len(clash):
            key = clash.iloc[0][cell]
            rows = clash[(clash[cell] == key).all(axis=1)]
            where = ", ".join(f"{c}={v}" for c, v in key.items())
            raise TableError(
                f"Column 'loss', rows {list(rows.index)}: {list(rows.loss)} disagree, all with {where}.",
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
