"""How much of the gap between two parameterizations a third closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics import figures
from hpt.metrics.law import ALPHA, BETA, GAMMA_LOG
from hpt.metrics.replicates import interval
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import plain_name, with_groups
from hpt.metrics.verdicts import Figure, plain_number, table_of


def gap_closed(
    report: TransferReport, *, from_: str = "SP", by: str = "SP+Embd", to: str = "μP"
) -> pd.DataFrame:
    """Share of the loss gap between two parameterizations that a third closes: (L_from −
    L_by)/(L_from − L_to).

    The replicates are paired: noise that runs of one seed and width share cancels.

    Returns
    -------
    DataFrame, one row for each width and value of the other group columns: share, share_low,
    share_high, gap (nats, L_from − L_to), determined, reason, method (how the interval was made), n
    (runs in the three basins).
    """
    first, *others = report.group_columns or ("parameterization",)
    found: dict[tuple, dict[str, int]] = {}
    for index, fit in enumerate(report.groups):
        for role, name in (("from", from_), ("by", by), ("to", to)):
            if fit.key and plain_name(fit.key[0]) == plain_name(name):
                found.setdefault(fit.key[1:], {})[role] = index
    complete = {rest: roles for rest, roles in found.items() if len(roles) == 3}
    if not complete:
        known = [str(f.key[0]) for f in report.groups if f.key]
        absent = [n for n in (from_, by, to) if plain_name(n) not in map(plain_name, known)]
        raise TableError(
            f"No setting has all of {from_!r}, {by!r} and {to!r} in column {first!r}.",
            f"{absent[0]!r} is not in the table; known: {sorted(set(known))}" if absent else "",
            "gap_closed(report, from_=…, by=…, to=…)",
        )
    rows = []
    for _rest, roles in complete.items():
        groups = [report.groups[roles[r]] for r in ("from", "by", "to")]
        fits, drawn = [g.fit for g in groups], [g.replicates for g in groups]
        shared = set.intersection(*(set(f.points.scale_W) for f in fits))
        rows.append(
            [
                {report.scale: plain_number(n)} | _share(fits, drawn, n, report.level)
                for n in sorted(shared)
            ]
        )
    return table_of(list(complete), tuple(others), rows)


def _share(fits, drawn, scale: float, level: float) -> dict:
    at = [int(np.flatnonzero(f.points.scale_W == scale)[0]) for f in fits]
    reasons = [f.points.reason_W[w] for f, w in zip(fits, at, strict=True) if f.points.reason_W[w]]
    L = [f.loss_W[w] for f, w in zip(fits, at, strict=True)]
    if reasons:
        figure = Figure.nothing(reasons[0])
    elif any(d is None for d in drawn):
        figure = Figure.of((L[0] - L[1]) / (L[0] - L[2]), (np.nan, np.nan))
    else:
        L_B = [d.loss_BxW[:, w].astype(float) for d, w in zip(drawn, at, strict=True)]
        gap_low, gap_high = interval(L_B[0] - L_B[2], level)
        reason = (
            ""
            if gap_low > 0
            else "the gap is not told from zero"
            if gap_high > 0
            else "the gap is below zero"
        )
        ends = interval((L_B[0] - L_B[1]) / (L_B[0] - L_B[2]), level)
        figure = Figure.of((L[0] - L[1]) / (L[0] - L[2]), ends, reason)
    return {
        "share": figure.estimate,
        "share_low": figure.low,
        "share_high": figure.high,
        "gap": L[0] - L[2],
        "determined": figure.determined,
        "reason": figure.reason,
        "method": drawn[0].method if all(drawn) and not reasons else "",
        "n": int(sum((f.points.weight_WxP[w] > 0).sum() for f, w in zip(fits, at, strict=True))),
    }


EXPONENTS = {"alpha": ALPHA, "beta": BETA, "gamma_log": GAMMA_LOG}


LEAST_P = 0.05


def compare_exponents(
    report: TransferReport, exponents: Sequence[str] = tuple(EXPONENTS)
) -> pd.DataFrame:
    """Could all groups have the same exponent?

    Each exponent is averaged over the groups with weights 1/variance; Q = Σ (value −
    average)²/variance (Cochran 1954) is compared with the Q of the report's replicates about their
    own estimates, which hold the groups' common noise.

    Parameters
    ----------
    exponents: of "alpha", "beta", "gamma_log".

    Returns
    -------
    DataFrame, one row an exponent: shared, shared_low, shared_high, Q, p (share of replicates with
        a larger Q), allowed
    (p ≥ 0.05: the data do not contradict it, which is no proof), groups (number that determine it).

    Raises
    ------
    TableError: for an unknown exponent, or fewer than two groups that determine it.
    """
    rows = []
    for name in exponents:
        members, value_G, drawn_BxG, weight_G = _members(report, name)
        shared, shared_B = value_G @ weight_G, drawn_BxG @ weight_G
        spread_G = _spread(drawn_BxG)
        Q = (((value_G - shared) / spread_G) ** 2).sum()
        centred = drawn_BxG - value_G
        Q_B = (((centred - (centred @ weight_G)[:, None]) / spread_G) ** 2).sum(1)
        low, high = interval(shared_B, report.level)
        p = float((1 + (Q_B >= Q).sum()) / (1 + len(Q_B)))
        rows.append(
            {
                "exponent": name,
                "shared": float(shared),
                "shared_low": low,
                "shared_high": high,
                "Q": float(Q),
                "p": p,
                "allowed": p >= LEAST_P,
                "groups": len(members),
            }
        )
    return pd.DataFrame(rows)


def share_exponents(report: TransferReport, exponents: Sequence[str] = ("beta",)) -> TransferReport:
    """The same report with exponents held in common by all groups that determine them.

    Each group's other parameters follow by their covariance with the exponent over the replicates
    (minimum distance, equal to a constrained fit to first order). A note says what the test of
    :func:`compare_exponents` found; sharing what the test rejects makes intervals narrow and wrong.
    E is that of the shared law; E_extrap and the octave error stay those of the separate fits.
    """
    groups, notes = list(report.groups), list(report.notes)
    moves: dict[
        int, dict[int, tuple]
    ] = {}  # group → parameter → how far its estimate and its replicates move
    for verdict in compare_exponents(report, exponents).itertuples():
        says = "the data allow it" if verdict.allowed else "THE DATA CONTRADICT IT"
        notes.append(
            f"{verdict.exponent} shared by {verdict.groups} groups: {says} (p = {verdict.p:.3f})"
        )
        members, value_G, drawn_BxG, weight_G = _members(report, verdict.exponent)
        shared, shared_B = value_G @ weight_G, drawn_BxG @ weight_G
        for i, g in enumerate(members):
            moves.setdefault(g, {})[EXPONENTS[verdict.exponent]] = (
                shared - value_G[i],
                shared_B - drawn_BxG[:, i],
            )
    for g, move in moves.items():
        fit, drawn = groups[g].fit, groups[g].replicates
        theta_B = drawn.theta_Bx7.astype(float)
        slope_Kx7 = _slopes(theta_B, list(move))
        theta = fit.law.theta_Bx7 + np.array([m for m, _ in move.values()]) @ slope_Kx7
        theta_B = theta_B + np.stack([m_B for _, m_B in move.values()], axis=1) @ slope_Kx7
        law = replace(fit.law, theta_Bx7=theta)
        part = fit.points.take(fit.fitted)
        E = float(figures.E(law, part, part.loss_WxP[None])[0])
        scaled = drawn.E_B * (E / fit.E if fit.E > 0 else 1.0)
        groups[g] = replace(
            groups[g],
            fit=replace(fit, law=law, E=E),
            replicates=replace(drawn, theta_Bx7=theta_B, E_B=scaled),
        )
    return with_groups(report, groups, notes)


def _members(report: TransferReport, name: str):
    """Groups that determine an exponent, its estimates, replicates (B, G) and weights (G,)."""
    if name not in EXPONENTS:
        raise TableError(
            f"{name!r} is no exponent.", did_you_mean(name, EXPONENTS), "exponents=('beta',)"
        )
    sure = report.figures[f"{name}_determined"].to_numpy(bool)
    members = [g for g in np.flatnonzero(sure) if report.groups[g].replicates is not None]
    if len(members) < 2:
        raise TableError(
            f"{len(members)} group(s) determine {name}; sharing it takes two.",
            remedy="report.to_frame() says why the others do not",
        )
    at = EXPONENTS[name]
    value_G = np.array([report.groups[g].fit.law.theta_Bx7[0, at] for g in members])
    drawn_BxG = np.stack(
        [report.groups[g].replicates.theta_Bx7[:, at].astype(float) for g in members], axis=1
    )
    precision = 1 / _spread(drawn_BxG) ** 2
    return members, value_G, drawn_BxG, precision / precision.sum()


def _spread(drawn_BxG):
    """Standard deviation of each group by its central 95 %, which stray replicates do not move."""
    low, high = np.quantile(drawn_BxG, [0.025, 0.975], axis=0)
    return np.maximum((high - low) / 3.92, 1e-12)


def _slopes(theta_B, at: list[int]):
    """Regression (K, 7) of every parameter on K of them, over the replicates whose values are not
    stray."""
    low, high = np.quantile(theta_B, [0.01, 0.99], axis=0)
    inside = ((theta_B >= low) & (theta_B <= high)).all(1)
    d = theta_B[inside] - theta_B[inside].mean(0)
    slope_Kx7 = np.linalg.lstsq(d[:, at], d, rcond=None)[0]
    slope_Kx7[:, at] = np.eye(len(at))
    return slope_Kx7
