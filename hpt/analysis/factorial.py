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
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import ConfigError, TableError, did_you_mean
from hpt.metrics import figures
from hpt.metrics.replicates import interval
from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import Figure, table_of
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
    this are taken to be 0), variants (number used), method (how the intervals were made).

    Raises
    ------
    ConfigError: for an unknown figure, or a name that is none of the sixteen. TableError: where no
        switch varies.
    """
    if figure not in FIGURES:
        raise ConfigError(
            f"effects(figure={figure!r}) is unknown.",
            did_you_mean(figure, FIGURES),
            "figure='kappa'",
        )
    names, settings, rests, other_columns = _factorial(report, switches)
    if width is None:
        width = _largest_common_width(report)
    keys, rows = [], []
    for rest in dict.fromkeys(rests):
        members = [g for g, r in enumerate(rests) if r == rest]
        cells = {settings[g]: _figure_of(report, g, figure, width) for g in members}
        keys.append(rest)
        rows.append(_all_effects(names, cells, report.level))
    frame = table_of(other_columns, dict(zip(keys, rows, strict=True)))
    frame.insert(len(other_columns), "figure", figure)
    method = next((g.replicates.method for g in report.groups if g.replicates), "")
    frame["method"] = np.where(frame["low"].notna(), method, "")
    if figure in ("penalty", "loss"):
        frame.insert(len(other_columns) + 1, report.scale, width)
    return frame


def _factorial(report: TransferReport, switches):
    """Names of the switches, each group's setting (a tuple of 0 and 1), its other group values and
    their columns."""
    columns = report.group_columns
    if switches is None:
        if "parameterization" not in columns:
            raise TableError(
                "The report has no column parameterization to read switches from.",
                remedy="effects(report, switches=['column', …]), columns of two values given to by=",
            )
        at = columns.index("parameterization")
        on = [Parameterization.parse(fit.key[at]).switches for fit in report.groups]
        settings = [tuple(int(s in names) for s in SWITCHES) for names in on]
        names, used = list(SWITCHES), {at}
    else:
        missing = [s for s in switches if s not in columns]
        if missing:
            raise TableError(
                f"{missing[0]!r} is no group column.",
                did_you_mean(missing[0], columns),
                f"transfer_report(table, by={list(switches)!r})",
            )
        names, used = list(switches), {columns.index(s) for s in switches}
        values = {i: sorted({fit.key[i] for fit in report.groups}) for i in used}
        many = [columns[i] for i in used if len(values[i]) > 2]
        if many:
            raise TableError(
                f"Column {many[0]!r} has more than two values, so it is no switch.",
                remedy="keep two of its values, or leave it out of switches",
            )
        order = [columns.index(s) for s in switches]
        settings = [tuple(values[i].index(fit.key[i]) for i in order) for fit in report.groups]
    varied = [i for i in range(len(names)) if len({s[i] for s in settings}) > 1]
    if not varied:
        raise TableError(
            "No switch is on in one group and off in another.", remedy="sweep at least two variants"
        )
    rests = [tuple(v for i, v in enumerate(fit.key) if i not in used) for fit in report.groups]
    settings = [tuple(s[i] for i in varied) for s in settings]
    return (
        [names[i] for i in varied],
        settings,
        rests,
        tuple(c for i, c in enumerate(columns) if i not in used),
    )


def _largest_common_width(report: TransferReport) -> float:
    known = report.basins[report.basins.reason == ""]
    counts = known.groupby(report.scale).size()
    if counts.empty:
        return float(report.basins[report.scale].max())
    return counts.index[counts == counts.max()].max()


def _figure_of(report: TransferReport, g: int, figure: str, width: float):
    """(estimate, replicates (B,) or None, reason) of one group's figure, E as log2."""
    fit, drawn, row = report.groups[g].fit, report.groups[g].replicates, report.figures.iloc[g]
    if figure in ("penalty", "loss"):
        at = np.flatnonzero(fit.points.scale_W == width)
        if not len(at) or fit.points.reason_W[at[0]]:
            return (
                np.nan,
                None,
                fit.points.reason_W[at[0]] if len(at) else f"not measured at {width:g}",
            )
        return (
            fit.loss_W[at[0]],
            None if drawn is None else drawn.loss_BxW[:, at[0]].astype(float),
            "",
        )
    estimate, reason = float(row[figure]), str(row[f"{figure}_reason"])
    if figure in ("E", "E_extrap"):
        if drawn is None or not estimate > 0:
            return (np.log2(estimate) if estimate > 0 else np.nan), None, reason
        draws = np.log2(np.maximum(getattr(drawn, f"{figure}_B"), 1e-300))
        typical = 0.5 * np.log2(np.mean(np.exp2(2 * draws)))
        return np.log2(estimate), np.log2(estimate) + typical - draws, reason
    if fit.law is None or np.isnan(estimate):
        return np.nan, None, reason
    value = figures.L_inf if figure == "R" else figures.LAW_FIGURES[figure]
    if figure == "R" and reason.startswith("interval wider"):
        reason = ""  # an effect on L∞ has an interval of its own
    reps = None if drawn is None else value(drawn.theta_Bx7.astype(float))
    return float(value(fit.law.theta_Bx7[0])), reps, reason


def _all_effects(names: list[str], cells: dict, level: float) -> list[dict]:
    """Every effect of one factorial; `cells` maps a setting to (estimate, replicates, reason)."""
    known = {s: cell for s, cell in cells.items() if np.isfinite(cell[0])}
    k, questions = len(names), _questions(len(names))
    solved = [_solve(k, list(known), weights) for _, _, weights in questions]
    values = np.array([cell[0] for cell in known.values()])
    drawn = [cell[1] for cell in known.values()]
    reps = np.stack(drawn, axis=-1) if drawn and all(d is not None for d in drawn) else None
    unsure = next(
        (f"{_setting_name(names, s)}: {cell[2]}" for s, cell in known.items() if cell[2]), ""
    )
    total = _solve(k, list(known), _difference(k))
    rows = []
    for (kind, which, _), (order, row_N) in zip(questions, solved, strict=True):
        row = {"kind": kind, "switch": "×".join(names[i] for i in which)}
        if row_N is None:
            figure = Figure.nothing(NOT_ESTIMABLE)
        else:
            reason = unsure if np.abs(row_N).max() > 0 else ""
            figure = _effect(
                values,
                reps,
                row_N,
                total[1] if kind == "share" else None,
                level,
                reason or _misfit(k, list(known), order, values, reps),
            )
        rows.append(
            row
            | {
                "estimate": figure.estimate,
                "low": figure.low,
                "high": figure.high,
                "determined": figure.determined,
                "reason": figure.reason,
                "order": order,
                "variants": len(known),
            }
        )
    return rows


def _effect(values, reps, row_N, total_N, level: float, reason: str) -> Figure:
    """The weighted sum of values, or its share of a total."""
    estimate, draws = values @ row_N, None if reps is None else reps @ row_N
    if total_N is not None:
        total = values @ total_N
        if draws is not None:
            low, high = interval(reps @ total_N, level)
            reason = reason or (NO_TOTAL if low <= 0 <= high else "")
            draws = draws / (reps @ total_N)
        if not abs(total) > 1e-12:
            return Figure.nothing(NO_TOTAL)
        estimate = estimate / total
    return Figure.of(
        estimate, (np.nan, np.nan) if draws is None else interval(draws, level), reason
    )


def _sets(k: int, order: int) -> list[tuple[int, ...]]:
    return [T for size in range(order + 1) for T in combinations(range(k), size)]


def _questions(k: int) -> list[tuple[str, tuple[int, ...], dict[tuple, float]]]:
    """(kind, switches, weight of each a_T) of every effect."""
    sets = _sets(k, k)
    main = [("main", (i,), {T: 0.5 ** (len(T) - 1) for T in sets if i in T}) for i in range(k)]
    pairs = [
        ("interaction", p, {T: 0.5 ** (len(T) - 2) for T in sets if set(p) <= set(T)})
        for p in combinations(range(k), 2)
    ]
    shapley = [{T: 1 / len(T) for T in sets if i in T} for i in range(k)]
    return [
        *main,
        *pairs,
        *(("shapley", (i,), w) for i, w in enumerate(shapley)),
        *(("share", (i,), w) for i, w in enumerate(shapley)),
    ]


def _difference(k: int) -> dict[tuple, float]:
    """All on minus all off."""
    return {T: 1.0 for T in _sets(k, k) if T}


def _design(settings: list[tuple[int, ...]], sets: list[tuple]) -> np.ndarray:
    return np.array([[float(all(s[i] for i in T)) for T in sets] for s in settings])


def _solve(k: int, settings: list[tuple[int, ...]], weights: dict[tuple, float]):
    """The highest order at which the settings determine Σ weight·a_T, and its weights on the cells;
    None where none."""
    for order in range(k, 0, -1):
        sets = _sets(k, order)
        if not settings:
            break
        X, a = _design(settings, sets), np.array([weights.get(T, 0.0) for T in sets])
        if not a.any():  # taken to be 0 at this order, so nothing is learnt of it
            break
        row_N = np.linalg.pinv(X).T @ a
        if np.abs(X.T @ row_N - a).max() < 1e-9:
            return order, np.where(np.abs(row_N) < 1e-12, 0.0, row_N)
    return 0, None


def _misfit(k: int, settings, order: int, values, reps) -> str:
    """A reason where the cells miss a model of this order by more than their noise explains (5
    %)."""
    X = _design(settings, _sets(k, order))
    miss = np.eye(len(settings)) - X @ np.linalg.pinv(X)
    if reps is None or np.trace(miss) < 0.5:
        return ""
    observed, drawn = ((values @ miss) ** 2).sum(), (((reps - values) @ miss) ** 2).sum(-1)
    return MISFIT if np.mean(drawn >= observed) < 0.05 else ""


def _setting_name(names: list[str], setting: tuple[int, ...]) -> str:
    return "+".join(n for n, on in zip(names, setting, strict=True) if on) or "none"


def plain_effects(cells: dict[tuple[int, ...], Any]) -> pd.DataFrame:
    """Effects of bare numbers, one for each setting (a tuple of 0 and 1), without intervals."""
    k = len(next(iter(cells)))
    names = [f"x{i + 1}" for i in range(k)]
    return pd.DataFrame(
        _all_effects(names, {s: (float(v), None, "") for s, v in cells.items()}, 0.95)
    )
