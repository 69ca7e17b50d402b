"""What the figures are called: symbol and unit of each, an estimate as text, a group's name.

Labels of tables, plots and pages come from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from numpy import clip, floor, inf, isnan, log10

from hpt.files import read_toml


def is_between(value: Any, low: float = -inf, high: float = inf) -> bool:
    """Whether a value is a number within bounds that are not themselves within."""
    return isinstance(value, Real) and low < value < high


@dataclass(frozen=True)
class Quantity:
    """How a figure is written: its symbol, and its unit ("" where there is none)."""

    symbol: str
    unit: str = ""

    def labelled(self, unit: str = "nats") -> str:
        """The symbol with its unit, such as "E (nats)", for losses of this unit."""
        return f"{self.symbol} ({self.unit.replace('nats', unit)})" if self.unit else self.symbol


#: Columns that tell the weight decay, with their symbols: λ, or its dose over a run.
DECAYS = {"weight_decay": "λ", "dose": "ηλT"}
# By the name of the column that a figure has in a report's tables.
QUANTITIES = {name: Quantity(**told) for name, told in read_toml("hpt.metrics", "quantities.toml").items()}


def estimate_text(estimate: float, low: float, high: float, determined: bool) -> str:
    """An estimate with its interval, to as many decimals as the interval's width warrants.

    It is "—" where there is no estimate. A "?" follows one that the data do not determine. The
    interval is missing where its low end is nan.
    """
    if isnan(estimate):
        return "—"
    decimals = _decimals(high - low)
    text = _number(estimate, decimals)
    if not determined:
        text += "?"
    if isnan(low):
        return text
    return f"{text} [{_number(low, decimals)}, {_number(high, decimals)}]"


def _decimals(width):
    """Decimals that show two digits of an interval's width."""
    if not 0 < width < inf:
        return 3
    return int(clip(1 - floor(log10(width)), 1, 5))


def _number(value, decimals):
    return signs(f"{value:z.{decimals}f}").replace("nan", "?")


def signs(text: str) -> str:
    """A number as text with the signs of mathematics: a minus for its hyphen, and ∞."""
    return text.replace("-", "−").replace("inf", "∞")


def value_text(value: Any) -> str:
    """A group's value in one column; a float without trailing zeros."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_name(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """A group's name: its values in `columns`, a weight decay as λ or as its dose; "all" without
    columns."""
    signs = {column: f"{symbol}=" for column, symbol in DECAYS.items()}
    return " ".join(signs.get(c, "") + value_text(row[c]) for c in columns) or "all"


def decay_column(columns: Sequence[str]) -> str | None:
    """Which of these group columns is the weight decay; None where none is."""
    return next((column for column in columns if column in DECAYS), None)
