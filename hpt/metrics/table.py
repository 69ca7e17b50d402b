"""The table of a sweep, checked: what is missing is reported, what is nonsense is refused by column
and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy import inf, isfinite, log2

from hpt.errors import TableError, did_you_mean
from hpt.metrics.columns import (
    LOGARITHMS,
    column_of,
    is_blank,
    is_word,
    named,
    numbers,
    plain,
    require,
    says,
    unpivoted,
)
from hpt.metrics.divergence import beyond_cliffs
from hpt.metrics.loss_units import in_nats
from hpt.metrics.reading import WORDS, read_frame

GROUPS = ("parameterization", "weight_decay")
LAST = "last"
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
    ignore: columns that may differ between runs that count as repeats. Columns in by, fix and ignore go
        by the table's own names, by hpt's, or by the table's without prefix and marks.
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
    if not isinstance(scale, str) or scale in ("lr", "loss"):
        raise TableError(f"scale={scale!r} is no name of a column that grows.", remedy='scale="width"')
    frame = unpivoted(read_frame(table), scale, notes)
    wanted = [scale, "lr", *LOGARITHMS, "loss", *GROUPS, "seed", "diverged", "status"]
    frame, had = named(frame, wanted, {"lr": lr, "loss": loss}, notes)
    _take_rate_from_logarithm(frame, had)
    numeric = [scale, "lr", "loss"]
    require(frame, had, numeric)
    by = _columns(frame, had, by, numeric)
    ignore = _columns(frame, had, ignore, numeric)
    if not isinstance(fix or {}, Mapping):
        raise TableError(f"fix={fix!r} says no value.", remedy='fix={"split": "val"}')
    fix = {column_of(frame, had, name): value for name, value in (fix or {}).items()}
    for name in ("diverged", "status"):
        if name not in had:
            frame[name] = ""
            had[name] = name
    frame = _fixed(frame, had, fix, ignore, notes)
    frame = _ended(frame, had, notes)
    groups = _groups(frame, had, by, [had[scale], *ignore])
    clean = pd.DataFrame({name: _label(frame[column]) for name, column in groups.items()}, index=frame.index)
    for name in numeric:
        clean[name] = _number(frame[had[name]], "size" if name == scale else name)
    clean["loss"] = clean.loss.mask(_diverged(frame, had), inf)
    clean["loss"], unit = in_nats(clean.loss, loss_unit, str(had["loss"]), notes)
    _refuse_out_of_range(clean.rename(columns=had), had[scale], had["lr"], had["loss"])
    clean = _without_missing(clean, numeric, notes)
    frame = frame.loc[clean.index]
    cell = [*groups, scale, "lr"]
    known = {*had.values(), *by, *ignore, *(column for column in fix if fix[column] != LAST)}
    _refuse_unknown(frame.drop(columns=known), clean, cell, had, notes)
    clean, paired = _with_seeds(frame.get(had.get("seed")), clean, cell, notes)
    _refuse_few_scales(clean, scale, least_scales)
    clean.insert(len(groups) + 1, "log2_lr", log2(clean.lr).round(9))
    order = [*groups, scale, "log2_lr", "seed"]
    clean = clean.drop(columns="lr").sort_values(order, ignore_index=True)
    _refuse_upside_down(clean, [*groups, scale])
    clean["loss"] = clean.loss.mask(beyond_cliffs(clean, [*groups, scale], notes), inf)
    return SweepTable(clean, tuple(groups), scale, paired, tuple(notes), unit)


def _take_rate_from_logarithm(frame, had):
    """Give a table that has only a logarithm of the learning rate the rate itself."""
    for name, base in LOGARITHMS.items():
        if "lr" not in had and name in had:
            frame["lr"] = base ** _number(frame[had[name]])
            had["lr"] = "lr"


def _columns(frame, had, names, numeric):
    """The columns that a caller means by a name, or by several; the axes of the sweep are none of them."""
    several = names if pd.api.types.is_list_like(names) else [names]
    columns = [column_of(frame, had, name) for name in several if name is not None]
    axes = [had[name] for name in numeric]
    if not {*columns}.isdisjoint(axes):
        raise TableError(f"{columns} name an axis of the sweep, {axes}.", remedy="others in by= and ignore=")
    return columns


def _groups(frame, had, by, without):
    """The columns that tell groups apart, by the name that they have in the result; with the dose of
    weight decay in the place of λ where λ follows from it."""
    decay = had.get("weight_decay")
    if decay and "dose" in frame and frame.dose.nunique() < frame[decay].nunique():
        decay = "dose"
    called = {column: name for name, column in had.items()}
    telling = (had.get("parameterization"), decay, *by)
    return {called.get(column, column): column for column in telling if column not in (None, *without)}


def _fixed(frame, had, fix, ignore, notes):
    """The rows that have the values asked for; the last of each run where "last" is."""
    for column in sorted(fix, key=lambda column: fix[column] == LAST):
        value = fix[column]
        said = ""
        if value == LAST:
            kept, said = _last(frame, had, column, [*fix, *ignore])
        else:
            kept = _has(frame[column], value)
        notes.append(f"{kept.sum()} of {len(frame)} row(s) kept: {column} is {value}{said}")
        frame = frame[kept]
    return frame


def _has(values, wanted):
    """Which cells have a value, as a text or as a number."""
    wanted_text = pd.Series([str(wanted).encode(errors="replace").decode()])
    kept = values.astype(str).isin(wanted_text) | numbers(values).isin(numbers(wanted_text).dropna())
    if not kept.any():
        known = did_you_mean(wanted, values.unique()[:20])
        raise TableError(f"No row has {values.name}={wanted!r}.", known, f"fix={{{values.name!r}: …}}")
    return kept


def _last(frame, had, column, ignored):
    """The last row of each run that has a loss where any run has one; and what is to be said of runs
    that end at different steps."""
    step = _number(frame[column])
    logged = ~is_blank(frame[had["loss"]])
    step = step.where(step.isin(step[logged]))
    changing = [had[name] for name in ("loss", "diverged", "status")]
    run = []
    for other in frame.columns.difference([*changing, *ignored]):
        if _is_setting(frame[other]) and not is_word(plain(other), WORDS["clock"]):
            run.append(frame[other])
    kept = step == step.groupby(run, dropna=False).transform("max")
    first, last = step[kept].min(), step[kept].max()
    said = ""
    if first < last:
        said = f", {first:g} to {last:g}"
    return kept, said


def _ended(frame, had, notes):
    """The rows without those of runs that did not come to their end, unless no run did."""
    has_loss = isfinite(numbers(frame[had["loss"]], "loss"))
    stopped = says(frame[had["status"]], WORDS["unfinished"]) & has_loss
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


def _refuse_unknown(others, clean, cell, had, notes):
    """Refuse settings, among other columns, that differ in runs which would count as repeats of one
    another."""
    trained = isfinite(clean.loss)
    others = others.loc[trained, [c for c in others if not is_word(plain(c), WORDS["measurements"])]]
    repeat = clean[trained].groupby(cell, sort=False).ngroup()
    values_a_cell = others.astype(str).groupby(repeat).nunique().max()
    varying = others.columns[values_a_cell > 1]
    refused = [column for column in varying if _is_setting(others[column])]
    measured = [column for column in varying if column not in refused]
    if refused:
        first = refused[0]
        values = others[first].dropna().unique()
        kept = values.tolist()[-1]
        if is_word(plain(first), WORDS["clock"]):
            kept = LAST
        alike = ", ".join(str(had.get(name, name)) for name in cell)
        raise TableError(
            f"Column {', '.join(map(repr, refused))} varies {values[:4].tolist()} among runs of the same "
            f"{alike}.",
            "such runs would be taken for repeats of one setting",
            f"by={refused!r} makes groups of them, fix={{{first!r}: {kept!r}}} keeps some, "
            f"ignore={refused!r} takes them for repeats",
        )
    if measured:
        notes.append(f"column(s) {measured} differ in every row: taken for measurements")


def _number(raw, of=""):
    """A column as floats; blank cells are nan, other text is refused. `of`: as for
    :func:`hpt.metrics.columns.numbers`."""
    found = numbers(raw, of)
    remedy = f"table[{raw.name!r}] = pd.to_numeric(table[{raw.name!r}], errors='coerce')"
    _refuse(raw, found.isna() & ~is_blank(raw), "is not a number", remedy)
    return found


def _label(values):
    """A group column: as it is where it holds numbers, else as text."""
    remedy = f"table.dropna(subset=[{values.name!r}]), or fill the label in"
    _refuse(values, values.isna(), "is missing", remedy)
    return values if values.dtype.kind in "fiub" else values.astype(str)


def _diverged(frame, had):
    """Which runs are marked as diverged."""
    marks = frame[had["diverged"]]
    diverged = says(marks, WORDS["true"])
    unclear = ~(diverged | says(marks, WORDS["false"], missing=True))
    _refuse(marks, unclear, "is neither true nor false", "table['diverged'] = table['loss'].isin([inf])")
    return diverged | says(frame[had["status"]], WORDS["diverged"])


def _refuse_out_of_range(clean, scale, lr, loss):
    for column in (scale, lr):
        values = clean[column]
        positive = (values > 0) & (values < inf)
        remedy = f"table[table[{column!r}] > 0]; log2 values belong in a column log2_lr"
        _refuse(values, values.notna() & ~positive, "is not a positive, finite number", remedy)
    remedy = "give the loss in nats a token; inf where a run diverged"
    _refuse(clean[loss], clean[loss] < 0, "is below zero", remedy)


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


def _refuse(values, bad, why, remedy):
    """Raise TableError for the first bad row of a column."""
    if bad.any():
        first, *_ = values[bad].tolist()
        where = f"Column {values.name!r}, row {bad.idxmax()}"
        raise TableError(f"{where}: {first!r} {why} ({bad.sum()} such row(s)).", remedy=remedy)


def _without_missing(clean, columns, notes):
    for column in columns:
        missing = clean[column].isna().sum()
        if missing:
            notes.append(f"{missing} row(s) without {column} left out as missing")
            if column == "loss":
                notes[-1] += "; where a run diverged, set loss to inf or diverged to True"
        clean = clean.dropna(subset=column)
    return clean


def _with_seeds(seed, clean, cell, notes):
    """The rows with a code for each seed, from 0 at each size, and whether the labels pair runs.

    Labels that hardly any two runs of a size share tell no more than that there are repeats.
    """
    *_, scale, _ = cell
    paired = seed is not None and seed.notna().all()
    if paired:
        clean = clean.assign(seed=pd.factorize(seed.astype(str), sort=True)[0])
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
            "transfer_report(table, scale=…), the column that grows; hpt.basins(table) takes a single size",
        )
