"""Losses that are no nats: perplexity, bits, accuracies and error rates, turned into what hpt fits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean

UNITS = ("nats", "bits", "perplexity", "error", "accuracy")
WORDS = {
    "ppl": "perplexity",
    "perplexity": "perplexity",
    "bpb": "bits",
    "bpc": "bits",
    "bits": "bits",
    "acc": "accuracy",
    "err": "error",
}
# No model's loss in nats is as high as this at its optimum: ln of a vocabulary of 3 million.
MOST_NATS = 15.0


def in_nats(loss: pd.Series, unit: str | None, column: str, notes: list[str]) -> tuple[pd.Series, str]:
    """Losses as hpt fits them, and their unit: "nats", or "error", a share of mistakes.

    Parameters
    ----------
    unit: "nats", "bits" (times ln 2), "perplexity" (its logarithm), "error" or "accuracy" (a share or a
        percentage); None: read off the column's name, else nats.

    Raises
    ------
    TableError: for an unknown unit, values that it cannot have, or values that are no nats.
    """
    if unit is not None and unit not in UNITS:
        raise TableError(
            f"loss_unit={unit!r} is no unit of a loss that hpt knows.",
            did_you_mean(unit, UNITS),
            "loss_unit='nats'",
        )
    told = unit or _unit_of(column)
    if unit is None and told != "nats":
        notes.append(f"column {column!r} taken for {told}; loss_unit= says otherwise")
    finite = loss[np.isfinite(loss)]
    least = finite.min() if len(finite) else 0.0
    if unit is None and told == "nats" and least > MOST_NATS:
        raise TableError(
            f"The lowest loss is {least:.4g}: no loss in nats a token.",
            "perplexities, or percentages",
            "loss_unit='perplexity' (or 'accuracy', 'error', 'bits', 'nats')",
        )
    if told == "perplexity":
        _refuse(finite < 1, told, "is below 1", least)
        return np.log(loss), "nats"
    if told == "bits":
        return loss * np.log(2), "nats"
    if told in ("error", "accuracy"):
        return _share(loss, finite, told), "error"
    return loss, "nats"


def _unit_of(column):
    name = column.lower()
    if "loss" in name:
        return "nats"
    for word, unit in WORDS.items():
        if word in name:
            return unit
    return "nats"


def _share(loss, finite, told):
    """Mistakes as a share, from a share or a percentage, of mistakes or of hits."""
    most = finite.max() if len(finite) else 0.0
    percent = 1.0
    if most > 1:
        percent = 100.0
    _refuse((finite < 0) | (finite > percent), told, "is no share", most)
    share = loss / percent
    if told == "error":
        return share
    return share.where(np.isinf(loss), 1 - share)


def _refuse(bad, told, why, value):
    if bad.any():
        raise TableError(
            f"loss_unit={told!r}: a loss of {value:.4g} {why}.",
            "the losses have another unit",
            f"loss_unit=…, one of {', '.join(UNITS)}",
        )
