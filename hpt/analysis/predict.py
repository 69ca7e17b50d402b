"""The learning rate for a larger model, what trusting it may cost, and the run that would help
most.

The replicates of a report stand for the laws that the sweep leaves possible. Under each of them a
learning rate η at width n costs h(n)·f_s(ln η − ln η*(n)) nats above the best; the expected penalty
is the mean of that over replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hpt.errors import TableError
from hpt.metrics.basin import LN2, well_loss
from hpt.metrics.group import GroupFit
from hpt.metrics.law import BETA, GAMMA_LOG, LN_H, LN_LR
from hpt.metrics.replicates import NOISE_UNKNOWN, Replicates
from hpt.metrics.verdicts import FEW_WIDTHS, LACK_OF_FIT, Figure, bounds, plain_number, table_of

if TYPE_CHECKING:
    from hpt.metrics.report import TransferReport

BEYOND = "at least this: further from the optimum than the runs reach"
NO_HELP = "no single width shrinks the interval by the share asked for"
RUNS_A_WIDTH = 5  # learning rates around the predicted optimum that a further width gets


def predict_lr(report: TransferReport, *, width: float, small: float | None = None) -> pd.DataFrame:
    """The learning rate that each group's law predicts at a width (or at another value of the
    report's scale).

    Parameters
    ----------
    width: of the model to be trained.
    small: the width whose η* one would otherwise use unchanged; by default the largest with a well.

    Returns
    -------
    DataFrame, one row a group: group columns, the scale, log2_lr and lr (hidden LR) with _low and
        _high, determined,
    reason, method (how the intervals were made), n (widths in the law); penalty: expected loss
    above the best from using log2_lr, nats, and penalty_high, which it stays under at the report's
    level; small: that width, unchanged,
    unchanged_low, unchanged_high: the same loss from using its η* unchanged, with unchanged_reason
        where it lies
    further from the optimum than the runs reach, so that the loss is at least this.

    Raises
    ------
    TableError: for a width that is not positive, or a small one that the sweep lacks.
    """
    if not width > 0:
        raise TableError(
            f"predict_lr(width={width!r}): a width is positive.",
            remedy="predict_lr(report, width=4096)",
        )
    known = sorted(report.basins[report.scale].unique())
    if small is not None and small not in known:
        raise TableError(
            f"predict_lr(small={small!r}) is not in the sweep.",
            f"known: {known}",
            f"small={known[0]!r}, or None for the largest with a well",
        )
    rows = []
    for group in report.groups:
        fit, drawn = group.fit, group.replicates
        figure = _log2_lr(fit, drawn, width, report.level)
        log2 = np.array([figure.estimate, figure.low, figure.high])
        row: dict[str, Any] = {report.scale: width}
        for name, values in (("log2_lr", log2), ("lr", np.exp2(log2))):
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), map(float, values), strict=True))
        row |= {
            "determined": figure.determined,
            "reason": figure.reason,
            "method": drawn.method if drawn and np.isfinite(figure.estimate) else "",
            "n": len(fit.fitted) + len(fit.edges),
        }
        rows.append([row | _penalties(fit, drawn, width, small, figure.estimate, report.level)])
    return table_of([g.key for g in report.groups], report.group_columns, rows)


def _log2_lr(fit: GroupFit, drawn: Replicates | None, width: float, level: float) -> Figure:
    if fit.law is None:
        return Figure.nothing(FEW_WIDTHS)
    z = np.log(width / fit.law.scale0)
    theta = fit.law.theta_Bx7[0]
    reps = None if drawn is None else drawn.theta_Bx7.astype(float)
    ends = bounds(None if reps is None else (reps[:, LN_LR] - reps[:, BETA] * z) / LN2, level)
    log2_lr = (theta[LN_LR] - theta[BETA] * z) / LN2
    if drawn is None:
        return Figure.of(log2_lr, ends)
    return Figure.of(
        log2_lr, (min(log2_lr, ends[0]), max(log2_lr, ends[1])), LACK_OF_FIT if drawn.kinked else ""
    )


def _penalties(
    fit: GroupFit, drawn: Replicates | None, width: float, small, log2_lr: float, level: float
) -> dict:
    """Penalty of the predicted η and of a small width's η* unchanged, nats."""
    names = ("penalty", "penalty_high", "small", "unchanged", "unchanged_low", "unchanged_high")
    row: dict[str, Any] = dict.fromkeys(names, np.nan) | {"unchanged_reason": ""}
    if fit.law is None or drawn is None:
        return row | {"unchanged_reason": FEW_WIDTHS if fit.law is None else NOISE_UNKNOWN}
    z, reps = np.log(width / fit.law.scale0), drawn.theta_Bx7.astype(float)
    ln_best_B, ln_h_B = reps[:, LN_LR] - reps[:, BETA] * z, reps[:, LN_H] + reps[:, GAMMA_LOG] * z
    u = (
        fit.points.u_WxP[fit.fitted]
        - (LN2 * (fit.log2_lr_W - fit.points.origin_W))[fit.fitted, None]
    )
    inside = fit.points.weight_WxP[fit.fitted] > 0
    reach = u[inside].min(), u[inside].max()

    def cost(ln_lr):
        u_B = ln_lr - ln_best_B
        near_B = np.clip(u_B, *reach)
        return well_loss(near_B, 0.0, np.exp(ln_h_B), fit.skew), np.mean(u_B != near_B)

    loss_B, _ = cost(log2_lr * LN2)
    row |= {"penalty": float(loss_B.mean()), "penalty_high": float(np.quantile(loss_B, level))}
    w = (
        int(fit.fitted[-1])
        if small is None
        else int(np.flatnonzero(fit.points.scale_W == small)[0])
    )
    row["small"] = plain_number(fit.points.scale_W[w])
    if fit.points.reason_W[w]:
        return row | {"unchanged_reason": fit.points.reason_W[w]}
    loss_B, beyond = cost(fit.log2_lr_W[w] * LN2)
    row |= dict(zip(("unchanged_low", "unchanged_high"), bounds(loss_B, level), strict=True))
    return row | {
        "unchanged": float(loss_B.mean()),
        "unchanged_reason": BEYOND if beyond > 0.05 else "",
    }


def next_width(
    report: TransferReport,
    *,
    width: float,
    least_gain: float = 0.1,
    cost: Callable[[float], float] | None = None,
    every: bool = False,
) -> pd.DataFrame:
    """Which further width would shrink the interval of the predicted η* most, per FLOP.

    A width measured like the others gives one more η*, the surer the more curved its basin is. What
    that leaves of the interval follows from the covariance of the law's parameters over the
    replicates (a linear, normal reckoning). Candidates lie half a doubling apart, from the smallest
    width measured to the one predicted.

    Parameters
    ----------
    width: where the learning rate is wanted.
    least_gain: share by which the interval must shrink; of those that do, the one with the most
        shrinkage a cost wins.
    cost: relative cost of one run at a width; by default width² (a step's FLOPs at fixed depth and
        tokens), and the scale itself where it is no width.
    every: return every candidate, not the best alone.

    Returns
    -------
    DataFrame, one row a group (or candidate): group columns, the scale (where to measure),
        log2_lr_from, log2_lr_to
    (five rates an octave apart around the predicted optimum), span (octaves, the interval of log2
    η* at `width` now), span_then (expected), gain (share of the interval that goes, doubt about the
    basins' shape aside, which no further width takes away), cost (relative to one run at the
    largest width measured), best, reason.
    """
    if not width > 0 or not 0 <= least_gain < 1:
        raise TableError(
            f"next_width(width={width!r}, least_gain={least_gain!r}) is out of range.",
            remedy="next_width(report, width=4096, least_gain=0.1)",
        )
    price = cost or ((lambda n: n**2) if report.scale == "width" else (lambda n: n))
    rows = []
    for group in report.groups:
        fit, drawn = group.fit, group.replicates
        candidates = _candidates(fit, drawn, width, price, report)
        able = [c for c in candidates if c["gain"] >= least_gain]
        for row in candidates:
            row["best"] = False
        if able:
            max(able, key=lambda c: -np.log1p(-min(c["gain"], 1 - 1e-9)) / c["cost"])["best"] = True
        nothing = {
            report.scale: np.nan,
            "gain": np.nan,
            "best": False,
            "reason": NO_HELP if candidates else FEW_WIDTHS if fit.law is None else NOISE_UNKNOWN,
        }
        chosen = candidates if every else [c for c in candidates if c["best"]]
        rows.append(chosen or [nothing])
    return table_of([g.key for g in report.groups], report.group_columns, rows)


def _candidates(fit: GroupFit, drawn: Replicates | None, width: float, price, report) -> list[dict]:
    if fit.law is None or drawn is None or len(fit.fitted) < 2:
        return []
    measured = fit.points.scale_W
    grid = measured[0] * 2 ** np.arange(0, np.log2(width / measured[0]) + 1e-9, 0.5)
    grid = [float(plain_number(round(n)) if n > 8 else n) for n in grid]
    new = [n for n in grid if np.abs(np.log2(n / measured)).min() > 0.2]
    reps, z_target = drawn.theta_Bx7.astype(float), np.log(width / fit.law.scale0)
    finite = np.isfinite(reps).all(1) & np.isfinite(drawn.log2_lr_BxW[:, fit.fitted]).all(1)
    if finite.sum() < 20:
        return []
    shape_B = drawn.shape_B[finite]  # no further width takes this part away
    target_B = (reps[finite, LN_LR] - reps[finite, BETA] * z_target) / LN2
    span = float(np.subtract(*bounds(target_B, report.level)[::-1]))
    target_B = target_B - shape_B
    theta, rows = fit.law.theta_Bx7[0], []
    # What a width tells of its own η*: variance at a measured one, times (h there / h here)², with
    # the law's misfit.
    own_BxW = drawn.log2_lr_BxW[finite][:, fit.fitted].astype(float) - shape_B[:, None]
    own_W = drawn.inflation**2 * np.var(own_BxW, axis=0)
    ln_h_W = np.log(fit.h_W[fit.fitted])
    for n in new:
        z = np.log(n / fit.law.scale0)
        at_B = (reps[finite, LN_LR] - reps[finite, BETA] * z) / LN2 - shape_B
        ln_h = theta[LN_H] + theta[GAMMA_LOG] * z
        fresh = np.exp(np.median(np.log(own_W) + 2 * (ln_h_W - ln_h)))
        covariance = np.cov(target_B, at_B)
        gone = covariance[0, 1] ** 2 / (covariance[1, 1] + fresh)
        left = 1 - gone / covariance[0, 0]
        stays = np.var(shape_B) / (covariance[0, 0] + np.var(shape_B))
        middle = np.round((theta[LN_LR] - theta[BETA] * z) / LN2)
        half = RUNS_A_WIDTH // 2
        rows.append(
            {
                report.scale: plain_number(n),
                "log2_lr_from": middle - half,
                "log2_lr_to": middle + half,
                "span": span,
                "span_then": span * float(np.sqrt(stays + (1 - stays) * left)),
                "gain": float(1 - np.sqrt(left)),
                "cost": float(price(n) / price(float(measured[-1]))),
                "reason": "",
            }
        )
    return rows
