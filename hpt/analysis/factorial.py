"""What each switch does to a figure: main effects, interactions and Shapley shares, with intervals.

A figure of the 2^k variants of k switches is a sum over sets of switches T of a contribution a_T,
counted where all of T are on. Every question is then a weighted sum of the a_T: a main effect is
the mean over all settings of the other switches of "on minus off"; an interaction the mean of the
difference of such differences; the Shapley value of a switch Σ_{T∋i} a_T/|T|, its part of "all on
minus all off" when the switches are turned on in every order (Shapley 1953, in the form of Harsanyi
1963). In a full factorial all a_T are known. In a partial one the a_T of large sets are taken to be
0, the others fitted by least squares, and an effect is given only where the variants at hand
determine it so.

E and E_extrap are analysed as log2: an effect of −1 halves the error. All others are in their own
unit.

Letters: B replicates, N variants with an estimate, K switches, T sets of switches, the smaller
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, compress, product

import pandas as pd
from numpy import array, exp2, eye, isfinite, isnan, log2, maximum, mean, nan, stack, trace, where, zeros
from numpy.linalg import pinv

from hpt.errors import ConfigError, TableError, did_you_mean
from hpt.metrics import figures
from hpt.metrics.intervals import Figure, interval
from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import TOO_WIDE, table_of
from hpt.parameterization.sixteen import SWITCHES, Parameterization

NOT_ESTIMABLE = "the variants at hand do not tell it apart"
MISFIT = "the switches interact beyond what the variants at hand can show"
NO_TOTAL = "all switches together do nothing that is told from zero"
FIGURES = ("E", "E_extrap", "kappa", "alpha", "beta", "gamma", "R", "penalty", "loss")


def effects(
    report: TransferReport,
    figure: str = "loss",
    *,
    width: float | None = None,
    switches: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Main effects, interactions of two, and Shapley values and shares of switches on one figure.

    Intervals come from the report's replicates, paired: noise that runs of one seed and width share
    cancels.

    Parameters
    ----------
    figure: "E" or "E_extrap" (effects in log2), "kappa", "alpha", "beta", "gamma", "R" (R(∞),
        nats), "penalty" (R(n), nats) or "loss" (L*, nats). The reference of R drops out of every
        effect.
    width: for "penalty" and "loss"; by default the largest at which most variants have a well.
    switches: group columns of two values each, for a factorial of your own. None: the four switches
        in the names of the column parameterization.

    Returns
    -------
    DataFrame, one row for each value of the other group columns and effect: kind ("main",
    "interaction", "shapley", "share" of the sum of all Shapley values), switch ("Embd",
    "Attn×Embd"), estimate, low, high, determined, reason, order (interactions of more switches than
    this are taken to be 0), variants (number used), method (how the intervals were made);
    `attrs["unit"]` is that of the losses.

    Raises
    ------
    ConfigError: for an unknown figure, or a name that is none of the sixteen. TableError: where no
        switch varies.
    """
    if figure not in FIGURES:
        raise ConfigError(
            f"effects(figure={figure!r}) is unknown.", did_you_mean(figure, FIGURES), "figure='kappa'"
        )
    settings = _settings(report, switches)
    used = ["parameterization"] if switches is None else switches
    others = [column for column in report.group_columns if column not in used]
    if width is None:
        width = _largest_common_width(report)
    asked = {"figure": figure}
    if figure in ("penalty", "loss"):
        asked[report.scale] = width
    records = report.figures.to_dict("records")
    factorials = {}
    for group, row, setting in zip(report.groups, records, settings.values, strict=True):
        rest = *(row[column] for column in others), *asked.values()
        variants = factorials.setdefault(rest, {})
        variants[tuple(setting)] = _variant(group, row, figure, width)
    rows = {
        rest: Factorial(list(settings), variants, report.level).rows()
        for rest, variants in factorials.items()
    }
    frame = table_of([*others, *asked], rows)
    method = next((group.method for group in report.groups if group.method), "")
    frame["method"] = where(frame.low.notna(), method, "")
    frame.attrs["unit"] = report.unit
    return frame


def _settings(report, switches):
    """Whether each switch is on: a row a group, a column a switch; only switches that vary."""
    if switches is None:
        settings = _named_switches(report)
    else:
        settings = {switch: _own_switch(report, switch) for switch in switches}
    settings = pd.DataFrame(settings)
    varied = settings.loc[:, settings.nunique() > 1]
    if varied.empty:
        raise TableError(
            "No switch is on in one group and off in another.", remedy="sweep at least two variants"
        )
    return varied


def _named_switches(report):
    """The four switches, read from the names of the parameterizations."""
    if "parameterization" not in report.group_columns:
        raise TableError(
            "The report has no column parameterization to read switches from.",
            remedy="effects(report, switches=['column', …]), columns of two values given to by=",
        )
    variants = report.figures["parameterization"].map(Parameterization.parse)
    return {switch: [switch in v.switches for v in variants] for switch in SWITCHES}


def _own_switch(report, column):
    """A column of two values as a switch, off at the smaller."""
    if column not in report.group_columns:
        raise TableError(
            f"{column!r} is no group column.",
            did_you_mean(column, report.group_columns),
            f"transfer_report(table, by=[{column!r}, …])",
        )
    values = report.figures[column]
    if values.nunique() > 2:
        raise TableError(
            f"Column {column!r} has more than two values, so it is no switch.",
            remedy="keep two of its values, or leave it out of switches",
        )
    return values == values.max()


def _largest_common_width(report):
    """The largest of the widths at which most groups have a well."""
    widths = report.basins[report.scale]
    known = widths[report.basins["reason"] == ""]
    return (widths if known.empty else known.mode()).max()


@dataclass(frozen=True)
class Variant:
    """A figure of one variant: why it is not determined, the estimate, and its replicates if any."""

    reason: str
    estimate: float = nan
    drawn_B: Sequence[float] = ()


def _variant(group, row, figure, width):
    """One group's figure as effects are counted in, E as log2."""
    if figure in ("penalty", "loss"):
        return _at_width(group, width)
    known = Figure.from_row(row, figure)
    reason = known.reason
    if isnan(known.estimate):
        return Variant(reason)
    if figure in ("E", "E_extrap"):
        return _log2_error(known, group.drawn(f"{figure}_B"))
    value = figures.LAW_FIGURES.get(figure, figures.L_inf)
    # Said of R alone; an effect on L∞ has an interval of its own.
    if reason == TOO_WIDE:
        reason = ""
    return Variant(reason, value(group.theta_1x7)[0], value(group.drawn("theta_Bx7")))


def _at_width(group, width):
    """L* at a width, nats."""
    w, reason = group.at(width)
    if reason:
        return Variant(reason)
    return Variant("", group.fit.loss_W[w], group.drawn("loss_BxW", w))


def _log2_error(error, drawn_B):
    """log2 of E or E_extrap, whose replicates are mirrored at their root mean square, as in
    :func:`hpt.metrics.intervals.ratio_interval`."""
    if error.estimate <= 0:
        return Variant(error.reason)
    estimate = log2(error.estimate)
    if not len(drawn_B):
        return Variant(error.reason, estimate)
    log2_B = log2(maximum(drawn_B, 1e-300))
    typical = 0.5 * log2(mean(exp2(2 * log2_B)))
    return Variant(error.reason, estimate, estimate + typical - log2_B)


class Factorial:
    """The variants of some switches that have an estimate, and the effects they tell.

    Parameters
    ----------
    names: of the K switches.
    variants: by setting, a tuple of K truth values.
    level: of the intervals.
    """

    def __init__(self, names, variants, level):
        known = {s: variant for s, variant in variants.items() if isfinite(variant.estimate)}
        self.names = names
        self.level = level
        self.value_N = array([variant.estimate for variant in known.values()])
        drawn = [variant.drawn_B for variant in known.values()]
        self.drawn_BxN = stack(drawn, axis=1) if drawn else zeros((0, 0))
        self.doubt = ""
        for setting, variant in known.items():
            if variant.reason and not self.doubt:
                switched_on = "+".join(compress(names, setting)) or "no switch"
                self.doubt = f"{switched_on}: {variant.reason}"
        # The sets by size, so that an order keeps the first of them.
        self.sets_TxK = array(sorted(product((1, 0), repeat=len(names)), key=sum))
        self.size_T = self.sets_TxK.sum(1)
        shared_NxT = array(list(known)).reshape(-1, len(names)) @ self.sets_TxK.T
        self.counts_NxT = (shared_NxT == self.size_T).astype(float)

    def rows(self):
        """Every effect, a row each."""
        rows = []
        for kind, switches, weight_T in self._questions():
            order, weight_N = self._weights(weight_T)
            figure = self._effect(order, weight_N, kind == "share")
            row = {"kind": kind, "switch": "×".join(self.names[i] for i in switches)}
            shown = ("estimate", "low", "high", "determined", "reason")
            row |= {name: getattr(figure, name) for name in shown}
            rows.append(row | {"order": order, "variants": len(self.value_N)})
        return rows

    def _questions(self):
        """Kind and switches of every effect, and the weight (T,) of each a_T in it."""
        shapley_T = 1 / maximum(self.size_T, 1)
        kinds = (
            ("main", 1, 0.5 ** (self.size_T - 1)),
            ("interaction", 2, 0.5 ** (self.size_T - 2)),
            ("shapley", 1, shapley_T),
            ("share", 1, shapley_T),
        )
        for kind, size, part_T in kinds:
            for switches in combinations(range(len(self.names)), size):
                yield kind, switches, part_T * self.sets_TxK[:, switches].all(1)

    def _weights(self, weight_T):
        """The highest order at which the variants determine Σ weight_T·a_T, and the weights (N,)
        that make it of their figures; None where there is no such order."""
        for order in range(len(self.names), 0, -1):
            kept = self.size_T <= order
            a = weight_T[kept]
            if not a.any():  # taken to be 0 at this order: nothing is learnt of it
                break
            X = self.counts_NxT[:, kept]
            weight_N = pinv(X).T @ a
            if abs(X.T @ weight_N - a).max() < 1e-9:
                return order, where(abs(weight_N) < 1e-12, 0.0, weight_N)
        return 0, None

    def _doubt(self, order, weight_N):
        """Why an effect is not determined: a variant is not, or a model of this order misses the
        figures by more than their noise explains (5 %)."""
        if self.doubt and weight_N.any():
            return self.doubt
        X = self.counts_NxT[:, self.size_T <= order]
        miss_NxN = eye(len(X)) - X @ pinv(X)
        if not len(self.drawn_BxN) or trace(miss_NxN) < 0.5:
            return ""
        missed = ((self.value_N @ miss_NxN) ** 2).sum()
        by_noise_B = (((self.drawn_BxN - self.value_N) @ miss_NxN) ** 2).sum(1)
        return MISFIT if mean(by_noise_B >= missed) < 0.05 else ""

    def _effect(self, order, weight_N, as_share):
        """A weighted sum of the figures, or its share of "all on minus all off"."""
        if weight_N is None:
            return Figure.nothing(NOT_ESTIMABLE)
        reason = self._doubt(order, weight_N)
        effect = self.value_N @ weight_N
        effect_B = self.drawn_BxN @ weight_N
        if as_share:
            _, total_weight_N = self._weights(self.size_T > 0)
            if total_weight_N is None:
                return Figure.nothing(NOT_ESTIMABLE)
            total = self.value_N @ total_weight_N
            total_B = self.drawn_BxN @ total_weight_N
            if not abs(total) > 1e-12:
                return Figure.nothing(NO_TOTAL)
            low, high = interval(total_B, self.level)
            if low <= 0 <= high:
                reason = reason or NO_TOTAL
            effect = effect / total
            effect_B = effect_B / total_B
        return Figure.of(effect, interval(effect_B, self.level), reason)
