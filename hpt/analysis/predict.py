"""The learning rate for a larger model, what trusting it may cost, and the run that would help
most.

The replicates of a report stand for the laws that the sweep leaves possible. Under each of them a
learning rate η at width n costs h(n)·f_s(ln η − ln η*(n)) nats above the best; the expected penalty
is the mean of that over replicates.

Letters: B replicates, W widths with a well, N further widths, P runs of a width, 7 parameters of a
law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy import arange, clip, exp, isfinite, log, log2, nan, sqrt, where

from hpt.errors import TableError
from hpt.metrics.basin import LN2
from hpt.metrics.intervals import NOISE_UNKNOWN, Z_95, Figure, interval
from hpt.metrics.quantities import is_between
from hpt.metrics.replicates import GRID
from hpt.metrics.report import TransferReport
from hpt.metrics.verdicts import FEW_WIDTHS, SLOPE_AT_BOUND, optimum, plain_number, table_of
from hpt.metrics.wells import well_loss

BEYOND = "at least this: further from the optimum than the runs reach"
LOST = "the replicates lose their optima: the basins are too flat for the noise"
NO_FURTHER = "every width up to this one is next to a measured one"
NO_HELP = "no single width shrinks the interval by the share asked for"
#: Of anything that grows.
LARGEST = 2**63
# No parameterization's theory takes an exponent of η* out of −1 to 1; few or noisy optima often do.
SLOPE = 1.0
# Learning rates around the predicted optimum that a further width gets.
RUNS_A_WIDTH = 5
# Replicates with all figures finite, from which a covariance is taken.
LEAST_REPLICATES = 20


# An interval may reach beyond the largest float.
@np.errstate(over="ignore")
def predict_lr(report: TransferReport, *, width: float, small: float | None = None) -> pd.DataFrame:
    """The learning rate that each group's law predicts at a width (or at another value of the
    report's scale).

    Parameters
    ----------
    width: of the model to be trained.
    small: the width whose η* one would otherwise use unchanged; by default the largest with a well.

    The law of η* is corrected by a curve through the optima, and its interval holds the bends that
    the sizes measured cannot show (:mod:`hpt.metrics.bend`). Where the interval is wide, log2_lr lies
    nearer to the largest width's than the law has it.

    Returns
    -------
    DataFrame, one row a group: group columns, the scale, log2_lr and lr (hidden LR) with _low and
    _high, bend (by how many octaves doubt about the law widens the interval), determined, reason,
    method (how the intervals were made), n (widths in the law); penalty: expected loss above the
    best from using log2_lr, nats, and penalty_high, which it stays under at the report's level;
    small: that width, unchanged, unchanged_low, unchanged_high: the same loss from using its η*
    unchanged, with unchanged_reason where it lies further from the optimum than the runs reach, so
    that the loss is at least this.

    Raises
    ------
    TableError: for a width that is not positive, or a small one that the sweep lacks.
    """
    if not is_between(width, 0, LARGEST):
        raise TableError(
            f"predict_lr(width={width!r}): a width is a positive number, below {LARGEST:g}.",
            remedy="predict_lr(report, width=4096)",
        )
    known = sorted(set(report.basins[report.scale]))
    if small is not None and small not in known:
        raise TableError(
            f"predict_lr(small={small!r}) is not in the sweep.",
            f"known: {known}",
            "small=None, the largest with a well",
        )
    rows = {}
    for group in report.groups:
        figure = _log2_lr(group, width, report.level)
        row = {report.scale: width} | figure.interval("log2_lr")
        row |= {name: np.exp2(value) for name, value in figure.interval("lr").items()}
        row["bend"] = group.bend_worth(width, report.level)
        row |= figure.verdict()
        row |= _penalties(group, width, figure.estimate, small, report.level)
        rows[group.key] = [row]
    return table_of(report.group_columns, rows)


def _log2_lr(group, width, level):
    if group.fit.law is None:
        return Figure.nothing(FEW_WIDTHS, group.law_widths)
    drawn_B = group.drawn_log2_lr([width])[:, 0]
    log2_lr = _drawn_to_unchanged(group, width, *interval(drawn_B, 0.95))
    found = optimum(group, log2_lr, drawn_B, group.law_widths, level)
    bound = group.at_bound("slope_at_bound", level)
    return replace(found, determined=False, reason=SLOPE_AT_BOUND) if bound else found


def _drawn_to_unchanged(group, width, low, high):
    """log2 η* by the law and the curve through the optima, drawn to that of the largest width as far
    as it is unsure: the exponent between the two has a prior, normal, 0 ± SLOPE."""
    (log2_lr,) = group.log2_lr([width])
    octaves = log2(width / group.fit.basins.scale_W[-1])
    if octaves <= 0:
        return log2_lr
    unchanged = group.fit.log2_lr_W[group.fit.fitted[-1]]
    doubt = (high - low) / (2 * Z_95) / (SLOPE * octaves)
    return unchanged + (log2_lr - unchanged) / (1 + doubt**2)


def _penalties(group, width, log2_lr, small, level):
    """Penalty of the predicted η and of a small width's η* unchanged, nats."""
    row = dict.fromkeys(("penalty", "penalty_high", "small"), nan)
    reason = _why_no_law(group)
    unchanged = Figure.nothing(reason)
    if not reason:
        loss_B, _ = _cost(group, width, log2_lr)
        small = small or group.fit.basins.scale_W[-1]
        row["penalty"] = loss_B.mean()
        row["penalty_high"] = np.quantile(loss_B, level)
        row["small"] = plain_number(small)
        unchanged = _unchanged(group, width, small, level)
    return row | unchanged.interval("unchanged") | {"unchanged_reason": unchanged.reason}


def _why_no_law(group):
    """Why the group's replicates have no law; "" where they have."""
    if group.fit.law is None:
        return FEW_WIDTHS
    return "" if group.method not in ("", GRID) else NOISE_UNKNOWN


def _unchanged(group, width, small, level):
    """Penalty of the small width's η*."""
    w, reason = group.at(small)
    if reason:
        return Figure.nothing(reason)
    loss_B, beyond = _cost(group, width, group.fit.log2_lr_W[w])
    return Figure.of(loss_B.mean(), interval(loss_B, level), BEYOND if beyond > 0.05 else "")


def _cost(group, width, log2_lr):
    """Loss (B,) above the best, nats, of a learning rate under every replicate's law; and the share
    of them in which it lies further from the optimum than any run, so that the loss is that of the
    furthest run."""
    fit = group.fit
    best_W, _, _ = fit.wells
    reach = (fit.basins.u_WxP - best_W[:, None])[fit.basins.inside_WxP]
    best_B = group.drawn_log2_lr([width])[:, 0] * LN2
    h_B = group.drawn_law.curvature(width)[:, 0]
    u_B = log2_lr * LN2 - best_B
    near_B = clip(u_B, reach.min(), reach.max())
    return well_loss(near_B, 0.0, h_B, fit.skew), np.mean(u_B != near_B)


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
    log2_lr_from, log2_lr_to (five rates an octave apart around the predicted optimum), span
    (octaves, the interval of log2 η* at `width` now), span_then (expected), gain (share of the
    interval that goes, doubt about the basins' shape aside, which no further width takes away),
    cost (relative to one run at the largest width measured), best, reason.

    Raises
    ------
    TableError: for a width or a gain out of range.
    """
    if not width > 0 or not 0 <= least_gain < 1:
        raise TableError(
            f"next_width(width={width!r}, least_gain={least_gain!r}) is out of range.",
            remedy="next_width(report, width=4096, least_gain=0.1)",
        )
    power = 2 if report.scale == "width" else 1
    price = cost or (lambda n: n**power)
    rows = {}
    for group in report.groups:
        candidates = _candidates(group, width, price, report)
        able = [row for row in candidates if row["gain"] >= least_gain]
        best = max(able, key=_shrinkage_a_cost, default=None)
        chosen = candidates if every else able and [best]
        if not chosen:
            reason = NO_HELP if candidates else _why_none(group, width)
            chosen = [{report.scale: nan, "gain": nan, "best": False, "reason": reason}]
        rows[group.key] = [row | {"best": row is best} for row in chosen]
    return table_of(report.group_columns, rows)


def _why_none(group, width):
    """Why there is no further width to measure."""
    further = _new_scales(group.fit.points.scale_W, width)
    return _why_no_law(group) or (LOST if further else NO_FURTHER)


def _shrinkage_a_cost(row):
    return -np.log1p(-min(row["gain"], 1 - 1e-9)) / row["cost"]


def _candidates(group, width, price, report):
    """A row for each further width; none where the replicates do not tell."""
    if _why_no_law(group):
        return []
    fit = group.fit
    drawn = group.drawn("log2_lr_BxW", fit.fitted), group.drawn("theta_Bx7")
    used_B = isfinite(np.hstack(drawn)).all(1)
    new_N = _new_scales(fit.points.scale_W, width)
    if used_B.sum() < LEAST_REPLICATES or not new_N:
        return []
    span, span_then_N, gain_N = _spans(group, used_B, width, new_N, report.level)
    (log2_lr_N,) = fit.law.log2_lr(new_N)
    middle_N = np.round(log2_lr_N)
    largest = fit.points.scale_W[-1]
    rows = {
        report.scale: [plain_number(n) for n in new_N],
        "log2_lr_from": middle_N - RUNS_A_WIDTH // 2,
        "log2_lr_to": middle_N + RUNS_A_WIDTH // 2,
        "span": span,
        "span_then": span_then_N,
        "gain": gain_N,
        "cost": [price(n) / price(largest) for n in new_N],
        "reason": "",
    }
    return pd.DataFrame(rows).to_dict("records")


def _new_scales(measured_W, width):
    """Scales about half a doubling apart, up to `width`, that are not next to a measured one.

    Where all measured ones are multiples of a whole number above 1, so are these: heads divide them.
    """
    smallest = measured_W[0]
    grid = smallest * 2 ** arange(0, log2(width / smallest) + 1e-9, 0.5)
    whole = np.array_equal(measured_W, np.round(measured_W))
    unit = float(np.gcd.reduce(measured_W.astype(np.int64))) if whole else 1.0
    grid = where(grid > 8, unit * np.round(grid / unit), grid)
    return [n for n in np.unique(grid).tolist() if n <= width and abs(log2(n / measured_W)).min() > 0.2]


def _spans(group, used_B, width, new_N, level):
    """The interval of log2 η* at `width` now and after a measurement at each further width, octaves;
    and the share that goes, aside from doubt about the basins' shape, which no width takes away."""
    fit = group.fit
    log2_lr_BxN = group.drawn_log2_lr([width, *new_N])[used_B]
    low, high = interval(log2_lr_BxN[:, 0], level)
    span = high - low
    shape_B = group.drawn("shape_B")[used_B]
    own_BxW = group.drawn("log2_lr_BxW", fit.fitted)[used_B] - shape_B[:, None]
    fresh_N = _variance_at(fit, new_N, group.replicates.inflation**2 * own_BxW.var(0))
    left_N, variance = _left_over(log2_lr_BxN - shape_B[:, None], fresh_N)
    stays = shape_B.var() / (variance + shape_B.var())
    span_then_N = span * sqrt(stays + (1 - stays) * left_N)
    return span, span_then_N, 1 - sqrt(left_N)


def _variance_at(fit, new_N, variance_W):
    """Variance (N,) of log2 η* as a further width measures it: that of a measured width, times (h
    there / h here)²."""
    ln_h_Nx1 = log(fit.law.curvature(new_N)).T
    ln_h_W = log(fit.h_W[fit.fitted])
    return exp(np.median(log(variance_W) + 2 * (ln_h_W - ln_h_Nx1), axis=1))


def _left_over(log2_lr_BxN, fresh_N):
    """Shares of the first column's variance, and this variance: what one more measurement of each
    other column, with variance `fresh_N`, leaves of it where all are normal."""
    covariance = np.atleast_2d(np.cov(log2_lr_BxN, rowvar=False))
    gone_N = covariance[0, 1:] ** 2 / (covariance.diagonal()[1:] + fresh_N)
    return 1 - gone_N / covariance[0, 0], covariance[0, 0]
