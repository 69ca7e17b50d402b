"""The columns of a table by the names that people have, and what stands in their cells.

A name is taken apart at its prefixes (`config/`, `summary/`, `params.`, `metrics.`, `params_`) and
compared without case and marks: `config/n_embd`, `nEmbd` and `n-embd` are n_embd.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.reading import DECIMAL_COMMA

# By the name that hpt uses: groups of other names, the first group that has a member counts.
NAMES = {
    "width": (
        "width",
        "n_embd n_embed d_model hidden_size model_dim model_width hidden_dim d_embed embed_dim "
        "embedding_dim emb_dim dim_model hidden_width d_hidden n_hidden",
        "dim",
    ),
    "lr": (
        "lr",
        "learning_rate max_lr peak_lr lr_max lr_peak max_learning_rate base_lr peak_learning_rate "
        "initial_lr init_lr eta step_size",
    ),
    "log2_lr": ("log2_lr log2lr log2_learning_rate lr_log2",),
    "loss": (
        "loss",
        "val_loss eval_loss validation_loss valid_loss test_loss final_val_loss final_loss loss_val "
        "best_val_loss val_loss_epoch loss_nats val_nll eval_nll test_nll nll cross_entropy "
        "val_ppl ppl perplexity val_perplexity eval_perplexity eval_ppl "
        "bpb val_bpb bpc bits_per_byte bits_per_char "
        "val_acc accuracy acc val_accuracy eval_accuracy test_accuracy "
        "error error_rate val_error test_error err",
        "train_loss training_loss loss_train",
        "value values_0",
    ),
    "parameterization": ("parameterization parametrization parameterisation parametrisation",),
    "weight_decay": ("weight_decay wd weightdecay",),
    "seed": ("seed random_seed rng_seed run_seed",),
    "diverged": ("diverged is_diverged has_diverged",),
}
PREFIX = re.compile(r"^(config|summary|hparams?|params?|metrics|user_attrs|args)[./_ ](?=.)", re.IGNORECASE)
DIVERGED = "diverged div nan inf infinity ∞ +inf +∞".split()
POWER = re.compile(r"([\d.]+)\s*(?:\^|\*\*)\s*[({]?\s*([+-−]?[\d.]+)\s*[)}]?")
FRACTION = re.compile(r"([\d.eE+-]+)\s*/\s*([\d.eE+-]+)")
SUFFIXED = re.compile(r"([\d.]+)\s*([kKmMbBgGtT])")
SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def plain(name) -> str:
    """A column's name without prefix, case and marks."""
    text = str(name).strip()
    while PREFIX.match(text):
        text = PREFIX.sub("", text, count=1)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).replace("η", "eta")
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def named(frame: pd.DataFrame, wanted: Sequence[str], given: dict, notes: list[str]):
    """The frame with the columns `wanted` under hpt's names, as far as it has them, and the names
    that they had.

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
        column = given.get(name)
        if column is not None and column not in frame:
            raise TableError(
                f"{name}={column!r} is not in the table.", did_you_mean(column, frame), f"{name}=None"
            )
        if column is None:
            column = _found(frame, name, notes)
        if column is not None:
            had[name] = column
            if column != name:
                notes.append(f"column {column!r} taken for {name}")
    double = [name for name, column in had.items() if list(frame.columns).count(column) > 1]
    if double:
        raise TableError(
            f"The table has two columns {had[double[0]]!r}.",
            "one was renamed to a name that was there",
            "table.loc[:, ~table.columns.duplicated()]",
        )
    replaced = [name for name, column in had.items() if column != name and name in frame]
    frame = frame.drop(columns=replaced)
    return frame.rename(columns={column: name for name, column in had.items()}), had


def _found(frame, name, notes):
    """The column that a name stands for; None where there is none."""
    tiers = NAMES.get(name, (plain(name),))
    if name in frame:
        others = []
        if name == "loss":
            others = [column for column in frame if plain(column) in tiers[1].split()]
        if others:
            notes.append(f"column 'loss' taken, not {others[0]!r}; loss={others[0]!r} takes that one")
        return name
    for names in tiers:
        fitting = [column for column in frame if _forms(column, name) & set(names.split())]
        exact = [column for column in fitting if not PREFIX.match(str(column))]
        if len(fitting) > 1 and len(exact) != 1:
            raise TableError(
                f"Columns {fitting} all fit {name!r}.",
                "the table has several under names that hpt knows",
                f"table.rename(columns={{{fitting[0]!r}: {name!r}}})",
            )
        if fitting:
            return exact[0] if len(exact) == 1 else fitting[0]
    return None


def _forms(column, name):
    """What a column's name may stand for: all of it, or, but for a loss, its last part."""
    forms = {plain(column)}
    if name != "loss":
        forms.add(plain(re.split(r"[./]", str(column))[-1]))
    return forms


def unpivoted(frame: pd.DataFrame, scale: str, notes: list[str]) -> pd.DataFrame:
    """A table with a column for each size (or learning rate), as rows; any other as it is.

    Raises
    ------
    TableError: for columns of several levels.
    """
    if frame.columns.nlevels > 1:
        raise TableError(
            "The table's columns have several levels.",
            "a pivot of several values",
            "table.stack().reset_index()",
        )
    known = numbers(pd.Series(frame.columns, dtype=object)).notna().to_numpy()
    if known.sum() < 2:
        return frame
    kept = list(frame.columns[~known])
    name = frame.columns.name
    if name is None:
        name = "lr" if any(_fits(column, scale) for column in kept) else scale
    first, *_, last = frame.columns[known]
    notes.append(f"columns {first!r} to {last!r} taken for values of {name}")
    return frame.melt(id_vars=kept, var_name=name, value_name="loss")


def _fits(column, name):
    every = " ".join(NAMES.get(name, (plain(name),)))
    return bool(_forms(column, name) & set(every.split()))


def require(frame: pd.DataFrame, wanted: Sequence[str]) -> None:
    """Raise a TableError that names every column that is missing, with a call that mends it."""
    missing = [name for name in wanted if name not in frame]
    if not missing:
        return
    listed = ", ".join(map(repr, missing))
    left = [str(column) for column in frame if column not in wanted]
    renames = ", ".join(f"{_nearest(name, left)!r}: {name!r}" for name in missing)
    raise TableError(
        f"The table has no column {listed}.",
        did_you_mean(missing[0], left) if left else "the table is empty",
        f"table.rename(columns={{{renames}}})",
    )


def _nearest(name, columns):
    """The column that is likeliest meant."""
    hint = did_you_mean(name, columns)
    return hint.split("'")[1] if hint.startswith("did you mean") else f"your name of {name}"


def numbers(values: pd.Series, diverged_text: bool = False) -> pd.Series:
    """A column as floats; nan where a cell is blank or no number.

    '2^-9', '1/512', '125M' and '3,5' are numbers; with `diverged_text` 'diverged', 'nan' and '∞'
    are inf.
    """
    if values.dtype.kind in "fiub":
        return values.astype(float)
    found = pd.to_numeric(values, errors="coerce").astype(float)
    unclear = found.isna() & values.notna()
    codes, texts = pd.factorize(values[unclear].astype(object).map(str).str.strip())
    meant = np.array([_number(text, diverged_text) for text in texts], float)
    found[unclear] = meant[codes]
    return found


def is_blank(values: pd.Series) -> pd.Series:
    """Which cells hold nothing."""
    if values.dtype.kind in "fiub":
        return values.isna()
    text = values.astype(object).map(str).str.strip().str.lower()
    return values.isna() | text.isin(["", "nan", "none"])


def _number(text, diverged_text):
    text = re.sub("[\u202f\u00a0]", "", text.replace("−", "-").replace("×10^", "e"))
    if diverged_text and text.lower() in DIVERGED:
        return np.inf
    if DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        return _value(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        return np.nan


def _value(text):
    """A number, a power, a fraction, or a number with the letter of a size."""
    if match := POWER.fullmatch(text):
        base, exponent = match.groups()
        return float(base) ** float(exponent)
    if match := FRACTION.fullmatch(text):
        above, below = match.groups()
        return float(above) / float(below)
    if match := SUFFIXED.fullmatch(text):
        number, suffix = match.groups()
        return float(number) * SUFFIXES[suffix.lower()]
    return float(text)
