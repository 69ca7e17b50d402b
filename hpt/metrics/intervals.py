"""A figure of a sweep: an estimate, its interval from replicates, and whether the data determine it.

Letters: B replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from numpy import cumsum, inf, isfinite, isnan, maximum, mean, minimum, nan, quantile, sqrt, where

from hpt.metrics.quantities import estimate_text

NOISE_UNKNOWN = "noise unknown: no run to spare beyond the fit's own freedom"
WIDE = "interval too wide to decide with"
OPEN = "interval open: the optimum may lie off the grid"
UNKNOWN = (nan, nan)
# Deviations from the middle of a normal to the end of its central 95 %.
Z_95 = 1.96
COLUMNS = ("", "_low", "_high", "_determined", "_reason", "_method", "_n")


@dataclass(frozen=True)
class Figure:
    """An estimate, its interval, and whether the data determine it; nan and a reason where they say
    nothing. `method` made the interval ("" where there is none) and `n` runs or widths are what it
    rests on: see :mod:`hpt.metrics.verdicts`."""

    estimate: float
    low: float
    high: float
    determined: bool
    reason: str
    method: str = ""
    n: int = 0

    @classmethod
    def nothing(cls, reason: str, n: int = 0) -> Figure:
        """No estimate, for a reason."""
        return cls.of(nan, reason=reason, n=n)

    @classmethod
    def of(cls, estimate, ends=UNKNOWN, reason: str = "", method: str = "", n: int = 0, widest=inf) -> Figure:
        """Determined unless there is a reason, an end of the interval is open, or it is wider than
        `widest`."""
        unknown = isnan(ends).any()
        if not reason and not isfinite(ends).all():
            reason = NOISE_UNKNOWN if unknown else OPEN
        if not reason and ends[1] - ends[0] > widest:
            reason = WIDE
        method = "" if unknown else method
        return cls(estimate, *ends, not reason, reason, method, n)

    @classmethod
    def from_row(cls, row: Mapping, name: str) -> Figure:
        """The figure that stands in the columns `name`, name_low … of a table's row."""
        return cls(*(row[name + column] for column in COLUMNS))

    def columns(self, name: str, some=COLUMNS) -> dict:
        """As seven columns of a table, or the first of them."""
        return dict(zip((name + column for column in some), vars(self).values(), strict=False))

    def interval(self, name: str) -> dict:
        """As three columns of a table: the estimate and the ends of its interval."""
        return self.columns(name, COLUMNS[:3])

    def verdict(self) -> dict:
        """The columns determined, reason, method and n of a table that has one verdict a row."""
        return {name: getattr(self, name) for name in ("determined", "reason", "method", "n")}

    def __str__(self) -> str:
        return estimate_text(self.estimate, self.low, self.high, self.determined)


def interval(replicates, level: float):
    """Ends of the central interval of replicates (B,), nan where there are none. A nan among them
    says nothing: it counts half as −inf, half as +inf."""
    lost = isnan(replicates)
    if lost.all():
        return UNKNOWN
    replicates = where(lost, where(cumsum(lost) % 2, -inf, inf), replicates)
    tail = (1 - level) / 2
    low = quantile(replicates, tail, method="lower")
    return low, quantile(replicates, 1 - tail, method="higher")


def ratio_interval(estimate: float, replicates, level: float):
    """Ends of the interval of the root mean square that a size, such as E, has over repeats of the
    sweep.

    The ratio of a replicate to the replicates' root mean square is a pivot; dividing the estimate
    by its quantiles gives the interval.
    """
    if isnan(replicates).all():
        return UNKNOWN
    typical = sqrt(mean(replicates**2))
    if not 1e-12 * max(estimate, 1e-300) < typical < inf:
        return estimate, estimate
    low, high = interval(replicates / typical, level)
    return estimate / high, estimate / low if low > 0 else inf


def spanning(estimate: float, ends):
    """The interval, widened to hold the estimate."""
    low, high = ends
    return minimum(low, estimate), maximum(high, estimate)
