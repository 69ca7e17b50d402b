"""The columns of a table by the names that people have, and what stands in their cells.

A name is taken apart at its prefixes (`config/`, `summary/`, `params.`, `metrics.`, `params_`) and
compared without case, marks and unit: `config/n_embd`, `nEmbd`, `n-embd` and `n_embd (units)` are
n_embd. Which names and words are known says words.toml.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from math import e, inf, nan

import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.reading import DECIMAL_COMMA, WORDS

WORD_FLAGS = re.VERBOSE | re.IGNORECASE
PREFIX = re.compile(r"^(config|summary|hparams?|params?|metrics|user_attrs|args)[./_ ](?=.)", re.IGNORECASE)
# A unit in brackets; of a learning rate it may be a logarithm or a factor.
UNIT = re.compile(r"\s*[(\[](?!.*log)\D*[)\]]$", re.IGNORECASE)
NUMBER = re.compile(WORDS["number"], WORD_FLAGS)
THOUSANDS = re.compile(r"[1-9]\d{0,2}([,_']\d{3})+")
# From which group of names on a loss is that of training.
TRAINING = 4
# The word around a number: 'width=64', 'w64', 'lr: 2^-9'; '64d', '64 units'.
WORD_BEFORE = re.compile(r"^([^=:]*[=:]\s*|[^\W\d]\D*?[ _-]*)(?=[+-]?[\d.])")
WORD_AFTER = re.compile(r"(?<=\d)[ _-]*[^\W\d]+$")
# A header that may say so, and what its word may be beside the name of an axis or of a loss.
LABEL = r"^(?!Unnamed|log[^=]*$).*\d"
# A column that is a logarithm of the learning rate, and its base.
LOGARITHMS = {"log2_lr": 2.0, "log10_lr": 10.0, "ln_lr": e}


def plain(name) -> str:
    """A column's name without prefix, case and marks."""
    text = unicodedata.normalize("NFKC", str(name)).strip()
    while PREFIX.match(text):
        text = PREFIX.sub("", text, count=1)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).replace("η", "eta")
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def is_word(text: str, pattern: str) -> bool:
    """Whether a text is one of the words of a pattern, whatever its case."""
    return bool(re.fullmatch(pattern, text, WORD_FLAGS))


def named(frame: pd.DataFrame, wanted: Iterable[str], given: dict, notes: list[str]):
    """Which column of a table is meant by each of the names `wanted`, as far as it has them: the names
    with their columns, and the frame without columns that have such a name and another meaning.

    Parameters
    ----------
    given: the column that the caller says is lr, or loss.
    notes: gets a sentence for each column that was found under another name.

    Raises
    ------
    TableError: where two columns fit, two have one name, or a column named is not there.
    """
    had = {}
    for name in wanted:
        asked = given.get(name)
        column = _found(frame, name, notes) if asked is None else column_of(frame, {}, asked)
        if column is not None:
            had[name] = column
            if column != name:
                notes.append(f"column {column!r} taken for {name}")
    _refuse_twins(frame, had)
    replaced = [name for name, column in had.items() if column != name and name in frame]
    return frame.drop(columns=replaced), had


def _refuse_twins(frame, had):
    """Refuse two columns of one name, also where a reader such as that of pandas has numbered them."""
    labels = frame.columns.map(str)
    unnumbered = labels.str.replace(r"\.\d+$", "", regex=True)
    numbered = (unnumbered != labels) & unnumbered.isin(had.values())
    twins = frame.columns[frame.columns.duplicated() | numbered]
    if len(twins):
        raise TableError(
            f"The table has two columns {twins[0]!r}.",
            "one was renamed to a name that was there",
            f"table.drop(columns={twins[0]!r}), or table.loc[:, ~table.columns.duplicated()]",
        )


def column_of(frame: pd.DataFrame, had: Mapping, name: str):
    """The column that a caller means: by the table's own name, by hpt's (`had`), or by the table's without
    prefix and marks.

    Raises
    ------
    TableError: where there is none, or more than one.
    """
    # As lists: a name may be of a kind that has no hash.
    if name in list(frame):
        return name
    if name in list(had):
        return had[name]
    alike = [column for column in frame if plain(column) == plain(name)]
    if len(alike) == 1:
        return alike[0]
    raise TableError(f"The table has no column {name!r}.", did_you_mean(name, frame))


def _found(frame, name, notes):
    """The column that a name stands for, of the first group of names that has one; None where none."""
    tiers = {column: _tier(column, name) for column in frame}
    first = min(tiers.values(), default=inf)
    fitting = [column for column in tiers if tiers[column] == first < inf]
    fitting = [c for c in fitting if c == name] or [c for c in fitting if not PREFIX.match(str(c))] or fitting
    others = [column for column in tiers if tiers[column] < TRAINING and column not in fitting]
    if name == "lr":
        # In a log one may be the rate of each step, another that of the run.
        fitting = [c for c in others if not frame[c].equals(frame[fitting[0]])] + fitting
    if len(fitting) > 1:
        raise TableError(
            f"Columns {fitting} all fit {name!r}.",
            "the table has several under names that hpt knows",
            f"table.drop(columns={fitting[1:]!r})",
        )
    if name == "loss" and fitting and others:
        notes.append(f"column {fitting[0]!r} taken, not {others[0]!r}; loss= takes another")
    return next(iter(fitting), None)


def _tier(column, name):
    """Which group of the names of `name` a column's is in; inf where in none. It may stand with a
    unit, or, but for a loss, behind what it is a part of."""
    text = str(column)
    forms = {plain(text)}
    if "lr" not in name:
        forms.add(plain(UNIT.sub("", text)))
    if name != "loss":
        forms.add(plain(re.split(r"[./]", text)[-1]))
    for tier, pattern in enumerate(WORDS["names"].get(name, [plain(name)])):
        if any(is_word(form, pattern) for form in forms):
            return tier
    return inf


def unpivoted(frame: pd.DataFrame, scale: str, notes: list[str]) -> pd.DataFrame:
    """A table with a column for each size (or learning rate), as rows; any other as it is.

    The columns are called 64, 'width=64', 'w64' or 'loss_64'. Where neither axis has a name, the one along
    the columns is the learning rate if all its values are below 1.

    Raises
    ------
    TableError: for columns of several levels.
    """
    if frame.columns.nlevels > 1:
        raise TableError(
            "The table's columns have several levels.",
            "a pivot of several values, or over several columns",
            "table.melt(value_name='loss', ignore_index=False).reset_index()",
        )
    header = pd.Series(frame.columns, dtype=object)
    values = numbers(header)
    word = ""
    if values.count() < 2:
        labels = header.astype(str)[lambda text: text.str.contains(LABEL)]
        word = _word(labels)
        if _axis(word, scale) or plain(word) in ("", *"wdnh") or _tier(word, "loss") < inf:
            values = numbers(labels, "size").reindex(header.index)
    known = values.notna().to_numpy()
    headers = frame.columns[known]
    if known.all():
        frame = frame.reset_index()
    kept = list(frame.columns.drop(headers))
    axes = {_axis(column, scale) for column in kept} - {""}
    if len(headers) < 2 or len(axes) > 1 or any(_tier(column, "loss") < inf for column in kept):
        return frame
    as_rate = scale in axes or (not axes and values.max() < 1)
    name = _axis(word, scale) or headers.name or ("lr" if as_rate else scale)
    said = f"columns {headers[0]!r} to {headers[-1]!r} taken for values of {name}"
    if not axes and len(kept) == 1:
        other = "lr" if name == scale else scale
        said += f", {kept[0]!r} for {other}"
        frame = frame.rename(columns={kept[0]: other})
        kept = [other]
    notes.append(said)
    frame = frame.rename(columns=values[known].set_axis(headers))
    return frame.melt(id_vars=kept, var_name=name, value_name="loss")


def _axis(column, scale):
    """The axis that a column holds: the scale, lr or its logarithm; "" for none, or for a corner that
    names two."""
    parts = re.split(r"[\\/|↓→]", str(column))
    axes = (scale, "lr", *LOGARITHMS)
    found = {axis for axis in axes for part in parts if _tier(part.strip(), axis) < inf}
    return found.pop() if len(found) == 1 else ""


def require(frame: pd.DataFrame, had: Mapping, wanted: Sequence[str]) -> None:
    """Raise a TableError that names every column that is missing, with a call that mends it."""
    missing = [name for name in wanted if name not in had]
    if not missing:
        return
    listed = ", ".join(map(repr, missing))
    left = [str(column) for column in frame if column not in had.values()]
    near = {name: get_close_matches(name, left, n=1) or [f"your name of {name}"] for name in missing}
    renames = ", ".join(f"{near[name][0]!r}: {name!r}" for name in missing)
    raise TableError(
        f"The table has no column {listed}.",
        did_you_mean(missing[0], left) if left else "the table is empty",
        f"table.rename(columns={{{renames}}})",
    )


def numbers(values: pd.Series, of: str = "") -> pd.Series:
    """A column as floats; nan where a cell is blank or no number.

    '2^-9', '10⁻³', '3×10^-4', '1/512', '125M' and '3,5' are numbers. Of "loss", 'diverged', 'nan' and '∞'
    are inf; of "lr" or "size", a word that all cells have is left out ('width=64', '64d'), and of "size"
    '1,024' is a thousand and 24.
    """
    if values.dtype.kind in "fiub":
        return values.astype(float)
    if values.dtype == object:  # which may hold tensors of one number
        values = values.map(_cell)
    found = pd.to_numeric(values, errors="coerce").astype(float)
    unclear = found.isna() & values.notna()
    codes, texts = pd.factorize(values[unclear].astype("str").str.strip())
    meant = pd.Series([_number(text, of) for text in texts], dtype=float)
    left = pd.Series(texts, dtype=object)[meant.isna()]
    for word in (WORD_BEFORE, WORD_AFTER) if of in ("lr", "size") else ():
        if _word(left, word):
            left = left.str.replace(word, "", regex=True)
            meant = meant.fillna(left.map(lambda text: _number(text, of)))
    found[unclear] = meant.to_numpy()[codes]
    return found


def _cell(value):
    """A cell's number where a tensor holds it; inf in place of an integer that is beyond the floats."""
    value = getattr(value, "item", lambda: value)()
    return float(Decimal(value)) if type(value) is int else value


def _word(texts, pattern=WORD_BEFORE):
    """The word that all texts have around their number; "" where they have none in common."""
    words = {(pattern.search(text) or [""])[0] for text in texts}
    return words.pop() if len(words) == 1 else ""


def is_blank(values: pd.Series) -> pd.Series:
    """Which cells hold nothing."""
    return values.isna() if values.dtype.kind in "fiub" else says(values, "|nan|none", missing=True)


def says(values: pd.Series, pattern: str, missing: bool = False) -> pd.Series:
    """Which cells hold one of the words of a pattern; `missing`: what is said of those without a value."""
    return values.astype("str").str.strip().str.fullmatch(pattern, flags=WORD_FLAGS, na=missing)


def _number(text, of):
    text = re.sub("[\u202f\u00a0$]", "", text)
    text = unicodedata.normalize("NFKC", re.sub("([⁺⁻⁰¹²³⁴-⁹]+)", r"^\1", text)).replace("−", "-")
    if of == "loss" and is_word(text, WORDS["diverged"]):
        return inf
    if of == "size" and THOUSANDS.fullmatch(text):
        text = re.sub("[,_']", "", text)
    if DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return _value(text)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError):
        return nan


def _value(text):
    """A power, a fraction, or a number with the letter of a size."""
    part = NUMBER.fullmatch(text).groupdict("1")
    suffix = WORDS["suffixes"][part.pop("suffix").lower()]
    times, base, power, number, below = map(float, part.values())
    return times * base**power * number / below * suffix
