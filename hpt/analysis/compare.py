"""How much of the gap between two parameterizations a third closes, and whether groups could share
an exponent.

Letters: B replicates, G groups that determine an exponent, K exponents shared, 7 parameters of a
law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import pandas as pd
from numpy import array, eye, flatnonzero, intersect1d, isnan, maximum, nanquantile, ndarray, stack, where
from numpy.linalg import lstsq

from hpt.errors import TableError, did_you_mean
from hpt.metrics import figures
from hpt.metrics.intervals import Z_95, Figure, interval
from hpt.metrics.law import ALPHA, BETA, GAMMA_LOG
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import plain_name, with_groups
from hpt.metrics.verdicts import Group, plain_number, table_of

# Columns of a law's parameters.
EXPONENTS = {"alpha": ALPHA, "beta": BETA, "gamma_log": GAMMA_LOG}
LEAST_P = 0.05


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

    Raises
    ------
    TableError: where no value of the other group columns has all three.
    """
    names = [from_, by, to]
    found = groups_of(report, names)
    rows = {rest: _share_rows(triple, report) for rest, triple in found.items()}
    return table_of(report.group_columns[1:], rows)


def groups_of(report: TransferReport, names: Sequence[str]) -> dict[tuple, list[Group]]:
    """The groups of these parameterizations, in their order, for each setting of the other group
    columns that has all of them.

    Raises
    ------
    TableError: where no setting has.
    """
    plain_names = [plain_name(name) for name in names]
    found = {}
    for group in report.groups:
        first, *rest = group.key or ("",)
        found.setdefault(tuple(rest), {})[plain_name(first)] = group
    whole = {rest: named for rest, named in found.items() if named.keys() >= set(plain_names)}
    if not whole:
        known = {str(value) for group in report.groups for value in group.key[:1]}
        present = set().union(*found.values())
        absent = [name for name in names if plain_name(name) not in present]
        raise TableError(
            f"No setting has all of {list(names)} in the first column of {report.group_columns}.",
            f"{absent[0]!r} is not in the table; known: {sorted(known)}" if absent else "",
            "names of one setting: gap_closed(report, from_=…, by=…, to=…), gap_steps(report, path=…)",
        )
    return {rest: [named[name] for name in plain_names] for rest, named in whole.items()}


def common_widths(groups: Sequence[Group]) -> ndarray:
    """The widths at which all of these groups have runs, ascending."""
    return reduce(intersect1d, [group.fit.points.scale_W for group in groups])


def losses_at(groups: Sequence[Group], width: float):
    """L* of some groups at a width at which all have runs: estimates and replicates (each (B,)), the
    number of runs in their basins, and why one of them has no L* ("" where all have)."""
    at, reasons = zip(*(group.at(width) for group in groups), strict=True)
    pairs = list(zip(groups, at, strict=True))
    estimates = [group.fit.loss_W[w] for group, w in pairs]
    drawn = [group.drawn("loss_BxW", w) for group, w in pairs]
    runs = sum(group.runs_W[w] for group, w in pairs)
    return estimates, drawn, runs, next(filter(None, reasons), "")


def _share_rows(triple, report):
    """A row for each width at which all three groups have runs."""
    rows = []
    for width in common_widths(triple):
        losses, *others = losses_at(triple, width)
        figure = _share(losses, *others, report.level, triple[0].method)
        row = {report.scale: plain_number(width)} | figure.interval("share")
        row["gap"] = losses[0] - losses[-1]
        rows.append(row | figure.verdict())
    return rows


def _share(losses, drawn, runs, missing, level, method):
    if missing:
        return Figure.nothing(missing, runs)
    from_B, by_B, to_B = drawn
    low, high = interval(from_B - to_B, level)
    reason = ""
    if low <= 0:
        reason = "the gap is below zero" if high <= 0 else "the gap is not told from zero"
    ends = interval(_share_of_gap(from_B, by_B, to_B), level)
    return Figure.of(_share_of_gap(*losses), ends, reason, method, runs)


def _share_of_gap(loss_from, loss_by, loss_to):
    return (loss_from - loss_by) / (loss_from - loss_to)


def compare_exponents(report: TransferReport, exponents: Sequence[str] = tuple(EXPONENTS)) -> pd.DataFrame:
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
    a larger Q), allowed (p ≥ 0.05: the data do not contradict it, which is no proof), groups
    (number that determine it).

    Raises
    ------
    TableError: for an unknown exponent, or fewer than two groups that determine it.
    """
    rows = []
    for name in exponents:
        exponent = _shared_exponent(report, name)
        low, high = interval(exponent.mean(exponent.drawn_BxG), report.level)
        Q = exponent.Q(exponent.value_G)
        Q_B = exponent.Q(exponent.drawn_BxG - exponent.value_G)
        p = (1 + (Q_B >= Q).sum()) / (1 + len(Q_B))
        rows.append(
            {
                "exponent": name,
                "shared": exponent.mean(exponent.value_G),
                "shared_low": low,
                "shared_high": high,
                "Q": Q,
                "p": p,
                "allowed": p >= LEAST_P,
                "groups": len(exponent.members),
            }
        )
    return pd.DataFrame(rows)


def share_exponents(report: TransferReport, exponents: Sequence[str] = ("beta",)) -> TransferReport:
    """The same report with exponents held in common by all groups that determine them.

    Each group's other parameters follow by their covariance with the exponent over the replicates
    (minimum distance, equal to a constrained fit to first order). A note says what the test of
    :func:`compare_exponents` found; sharing what the test rejects makes intervals narrow and wrong.
    E is that of the shared law; E_extrap and the octave error stay those of the separate fits.

    Raises
    ------
    TableError: as :func:`compare_exponents`.
    """
    notes = list(report.notes)
    moves = [{} for _ in report.groups]
    for test in compare_exponents(report, exponents).itertuples():
        name = test.exponent
        says = "the data allow it" if test.allowed else "THE DATA CONTRADICT IT"
        notes.append(f"{name} shared by {test.groups} groups: {says} (p = {test.p:.3f})")
        exponent = _shared_exponent(report, name)
        move_G = exponent.mean(exponent.value_G) - exponent.value_G
        move_BxG = exponent.mean(exponent.drawn_BxG)[:, None] - exponent.drawn_BxG
        for i, g in enumerate(exponent.members):
            moves[g][EXPONENTS[name]] = move_G[i], move_BxG[:, i]
    groups = [_moved(g, m) if m else g for g, m in zip(report.groups, moves, strict=True)]
    return with_groups(report, groups, notes)


def _moved(group, moves):
    """The group after some parameters of its law have moved, and the others with them.

    `moves`: by column of the parameters, how far the estimate and the replicates (B,) move.
    """
    theta_Bx7 = group.drawn("theta_Bx7")
    slope_Kx7 = _slopes(theta_Bx7, list(moves))
    move_K = array([move for move, _ in moves.values()])
    move_BxK = stack([move_B for _, move_B in moves.values()], axis=1)
    fit = group.fit
    law = replace(fit.law, theta_Bx7=fit.law.theta_Bx7 + move_K @ slope_Kx7)
    part = fit.basins
    (E,) = figures.E(law, part, part.loss_WxP[None])
    drawn = replace(
        group.replicates,
        theta_Bx7=theta_Bx7 + move_BxK @ slope_Kx7,
        bend=replace(group.replicates.bend, slope_known=BETA in moves),
        E_B=group.replicates.E_B * (E / fit.E if fit.E > 0 else 1.0),
    )
    return replace(group, fit=replace(fit, law=law, E=E), replicates=drawn)


def _slopes(theta_Bx7, columns):
    """Regression (K, 7) of every parameter on K of them, over the replicates that are not stray; 0
    for parameters that the group has none of, as L∞, A and α of two widths."""
    theta_Bx7 = where(isnan(theta_Bx7).all(0), 0.0, theta_Bx7)
    low, high = nanquantile(theta_Bx7, [0.01, 0.99], axis=0)
    inside_B = ((theta_Bx7 >= low) & (theta_Bx7 <= high)).all(1)
    theta_Bx7 = theta_Bx7[inside_B]
    deviation = theta_Bx7 - theta_Bx7.mean(0)
    slope_Kx7 = lstsq(deviation[:, columns], deviation, rcond=None)[0]
    slope_Kx7[:, columns] = eye(len(columns))
    return slope_Kx7


@dataclass(frozen=True, eq=False)
class _Exponent:
    """An exponent of the groups that determine it.

    Attributes
    ----------
    members: indices of these groups in the report.
    value_G, drawn_BxG: estimates and replicates.
    spread_G: their standard deviation.
    """

    members: ndarray
    value_G: ndarray
    drawn_BxG: ndarray
    spread_G: ndarray

    def mean(self, value_G):
        """Of values (…, G), with weights 1/variance."""
        precision_G = 1 / self.spread_G**2
        return value_G @ (precision_G / precision_G.sum())

    def Q(self, value_G):
        """Σ (value − average)²/variance of values (…, G)."""
        distance_G = value_G - self.mean(value_G)[..., None]
        return ((distance_G / self.spread_G) ** 2).sum(-1)


def _shared_exponent(report, name):
    if name not in EXPONENTS:
        raise TableError(f"{name!r} is no exponent.", did_you_mean(name, EXPONENTS), "exponents=('beta',)")
    members = flatnonzero(report.figures[f"{name}_determined"])
    if len(members) < 2:
        raise TableError(
            f"{len(members)} group(s) determine {name}; sharing it takes two.",
            remedy="report.to_frame() says why the others do not",
        )
    groups = [report.groups[g] for g in members]
    column = EXPONENTS[name]
    value_G = array([group.fit.law.theta_Bx7[0, column] for group in groups])
    drawn_BxG = stack([group.drawn("theta_Bx7", column) for group in groups], axis=1)
    # Stray replicates do not move the central 95 %.
    low_G, high_G = nanquantile(drawn_BxG, [0.025, 0.975], axis=0)
    spread_G = maximum((high_G - low_G) / (2 * Z_95), 1e-12)
    return _Exponent(members, value_G, drawn_BxG, spread_G)
