"""Losses that are no nats: perplexity, bits, accuracies and error rates, turned into what hpt fits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.columns import plain
from hpt.metrics.reading import WORDS

UNITS = ("nats", "bits", "perplexity", "error", "accuracy")
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
    told = unit or _unit_of(column)
    if told not in UNITS:
        raise TableError(
            f"loss_unit={unit!r} is no unit of a loss that hpt knows.",
            did_you_mean(unit, UNITS),
            "loss_unit='nats'",
        )
    finite = loss[np.isfinite(loss)]
    if not unit and told != "nats":
        notes.append(f"column {column!r} taken for {told}; loss_unit= says otherwise")
    elif not unit and finite.min() > MOST_NATS:
        raise TableError(
            f"The lowest loss is {finite.min():.4g}: no loss in nats a token.",
            "perplexities, or percentages",
            "loss_unit='perplexity' (or 'accuracy', 'error', 'bits', 'nats')",
        )
    if told == "perplexity":
        _refuse(finite, finite >= 1, told, "is below 1")
        return np.log(loss), "nats"
    if told in ("nats", "bits"):
        return loss * (np.log(2) if told == "bits" else 1), "nats"
    percent = 100.0 if finite.max() > 1 else 1.0
    _refuse(finite, finite.between(0, percent), told, "is no share")
    share = loss / percent
    return share if told == "error" else (1 - share).abs(), "error"


def _unit_of(column):
    words = plain(column).split("_")
    return next((unit for word, unit in WORDS["units"].items() if word in words), "nats")


def _refuse(loss, good, told, why):
    if not good.all():
        raise TableError(
            f"loss_unit={told!r}: a loss of {loss[~good].iloc[0]:.4g} {why}.",
            "the losses have another unit",
            f"loss_unit=…, one of {', '.join(UNITS)}",
        )
