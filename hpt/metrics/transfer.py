"""How well the learning rate transfers: a table of a sweep in, E, κ, R(∞), a predicted η* and their
verdicts out.

Near the optimum L(n, η) ≈ L∞ + A·n^(−α) + ½·h(n)·(ln η − ln η*(n))², with η* ∝ n^(−β) and h ∝
n^γ_log. From it, after Kalra & Barkeshli 2026 (arXiv 2605.21486):

- E, the error of the joint fit; they publish no norm, ours is the root-mean-square residual in nats
  over the runs kept in the basins. E_extrap is the same at the largest width when the fit leaves it
  out, octave_error the distance between predicted and measured log2 η* there. Their intervals are
  for what repeats of the sweep would give on average.
- κ = α − 2β + γ, with γ the exponent of ∂²L/∂η²; since γ_log = γ − 2β, κ = α + γ_log. Below 0 a
  mistake of some octaves matters less, relative to the reducible loss, as the model grows.
- R(∞), L∞ minus that of a reference; R(n), L* minus the reference's at one width, which needs no
  extrapolation.

Letters: W scales.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy import argmin, concatenate, flatnonzero, full, hypot, inf, log2, nan, nanmin, searchsorted, unique

from hpt.errors import TableError, did_you_mean
from hpt.metrics.basin import EDGE, LN2, MOST_RUNS, gather
from hpt.metrics.bootstrap import SharedDraws, seeds_to_resample
from hpt.metrics.group import fit_group
from hpt.metrics.noise import CommonNoise, common_noise, growth_of, noise_of
from hpt.metrics.quantities import group_name, is_between
from hpt.metrics.replicates import replicate
from hpt.metrics.report import TransferReport
from hpt.metrics.table import GROUPS, Columns, Values, read_table
from hpt.metrics.verdicts import Group, basin_rows, figure_row, penalty_rows, plain_number, table_of

#: Beyond, replicates would fill the memory.
MOST_BOOTSTRAPS = 10**6
NO_NAME_NEEDED = "reference=None compares with the best group"


def transfer_report(
    table: Any,
    *,
    reference: str | Mapping[str, Any] | None = None,
    by: Columns = None,
    scale: str = "width",
    fix: Values = None,
    ignore: Columns = None,
    lr: str | None = None,
    loss: str | None = None,
    loss_unit: str | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    octaves: float = 1.0,
    resample: str = "auto",
) -> TransferReport:
    """E, κ, R(∞), η*(n) and their uncertainty, from any table of a sweep.

    What is assumed:

    1. Each row is a run of its own: size, learning rate, final loss, all other settings alike.
    2. Near its optimum the loss of a size is a smooth well in ln η, its skew common to the sizes of
       a group; a kink is taken for possible as far as the runs allow.
    3. L*, η* and curvature follow power laws of size, L* with a floor.
    4. Real laws bend: the exponent of η* drifts by σ octaves an octave per (octave of size)^½, σ = 0
       or half-normal (0.3), learned from public sweeps; that of L* − L∞ by 5 % (:mod:`.bend`).
    5. β and α are mean exponents over the sizes measured. Beyond them only η*, with its bend, holds.
    6. Runs scatter independently, but for what runs of one seed and size share; by how much is a power
       of size, which the data and a prior about none tell.
    7. A finite loss beyond a cliff is a diverged run; diverged runs bound the basin and fit nothing.
    8. Where no run is to spare, η* lies between the neighbours of the best learning rate.
    9. Intervals hold for repeats of this sweep, and for sizes and settings like those it has.
    10. Determined means narrow enough to decide with (:mod:`.verdicts`), not right.

    Parameters
    ----------
    table: a DataFrame (pandas, polars, Arrow), dict, list of rows, or a path, with `scale`, lr, loss
        (nats), and optionally parameterization, weight_decay, seed, diverged, under these names or
        the usual ones. Gaps, nan, inf and unequal grids are met; see
        :func:`hpt.metrics.table.read_table`, also for `fix`, `ignore`, `lr`, `loss` and `loss_unit`.
    reference: what R compares with. None: the group with the lowest L* at the largest width at
        which all groups, or most, have a well. A name: that parameterization at equal other
        settings. A mapping: values of the group columns.
    by: more group columns.
    scale: the column that grows.
    bootstraps: replicates; their noise is described in :mod:`hpt.metrics.bootstrap`.
    resample: "seeds" resamples them as whole runs, alike in all groups; "parametric" draws noise of
        the size estimated from repeats and residuals; "auto" takes seeds where there are five or
        more.
    seed: of the replicates.
    level: of the intervals.
    octaves: how far either way the interval of a determined log2 η* may reach.

    Raises
    ------
    TableError: for a table that cannot be analysed, a reference that is not in it, or seeds to
        resample that are not.
    """
    _check_replicates(bootstraps, level, octaves)
    reading = {"fix": fix, "ignore": ignore, "lr": lr, "loss": loss, "loss_unit": loss_unit}
    sweep = read_table(table, scale=scale, by=by, least_scales=2, **reading)
    groups = _fit_groups(sweep, bootstraps, seed, resample, octaves)
    indices, label = _references(sweep.group_columns, groups, reference)
    groups = [replace(g, reference=i) for g, i in zip(groups, indices, strict=True)]
    return TransferReport(
        table=sweep.frame,
        **_tables(groups, sweep.group_columns, scale, level),
        reference=label,
        scale=scale,
        group_columns=sweep.group_columns,
        level=level,
        bootstraps=bootstraps,
        notes=(*sweep.notes, *_notes(sweep, groups), *_bend_note(groups, scale, level)),
        groups=tuple(groups),
        unit=sweep.unit,
    )


def basins(
    table: Any,
    *,
    by: Columns = None,
    scale: str = "width",
    bootstraps: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    octaves: float = 1.0,
    resample: str = "auto",
    **reading: Any,
) -> pd.DataFrame:
    """The basins alone, as in :class:`TransferReport`; one width is enough. Arguments as
    :func:`transfer_report`."""
    _check_replicates(bootstraps, level, octaves)
    sweep = read_table(table, scale=scale, by=by, **reading)
    groups = _fit_groups(sweep, bootstraps, seed, resample, octaves)
    rows = {group.key: basin_rows(group, level, scale) for group in groups}
    return table_of(sweep.group_columns, rows)


def with_groups(report: TransferReport, groups: list[Group], notes: list[str]) -> TransferReport:
    """The report with other groups in the place of its own, all tables made anew."""
    tables = _tables(groups, report.group_columns, report.scale, report.level)
    return replace(report, **tables, notes=tuple(notes), groups=tuple(groups))


def _check_replicates(bootstraps, level, octaves):
    """Raise TableError unless these give intervals."""
    whole = isinstance(bootstraps, Integral) and is_between(bootstraps, 19, MOST_BOOTSTRAPS)
    wide = is_between(octaves, 0) or octaves == inf
    if not whole or not wide or not is_between(level, 0, 1):
        raise TableError(
            f"transfer_report({bootstraps=}, {level=}, {octaves=}) gives no interval.",
            remedy="transfer_report(table, bootstraps=1000, level=0.95, octaves=1.0)",
        )


def _fit_groups(sweep, bootstraps, seed, resample, octaves):
    """Every group, its own reference; the noise that seeds share is drawn once for all of them."""
    fits = [fit_group(key, gather(rows, sweep.scale)) for key, rows in sweep.groups()]
    seeds = sweep.frame.seed.max() + 1
    # Without labels nobody knows which runs share their batches, unless there is one run a cell.
    shared = sweep.paired or seeds == 1
    noises = noise_of(fits, shared)
    common = CommonNoise.none()
    if shared:
        common = common_noise(fits, [noise.sd for noise in noises], sweep.paired)
    scales = unique(sweep.frame[sweep.scale])
    wells = [fit.basins for fit in fits if len(fit.fitted)]
    seeds_W = seeds_to_resample(resample, wells, scales, sweep.paired)
    shared_rng, *rngs = np.random.default_rng(seed).spawn(1 + len(fits))
    kept = 1 + max(fit.points.seed_WxP.max() for fit in fits)
    shape = bootstraps, len(scales), kept
    groups: list[Group] = []
    draws = None
    for fit, noise, rng in zip(fits, noises, rngs, strict=True):
        if draws is None or not sweep.paired:
            draws = SharedDraws.draw(common, shape, shared_rng, seeds_W)
        noise = replace(noise, common_sd=common.sd, growth_p_K=growth_of(fit))
        at = searchsorted(scales, fit.points.scale_W)
        replicates = replicate(fit, noise, draws.take(at), rng)
        groups.append(Group(fit, noise, replicates, reference=len(groups), octaves=octaves))
    return groups


def _references(columns, groups, reference):
    """For each group the index of its reference, and the reference's name."""
    rows = [dict(zip(columns, group.key, strict=True)) for group in groups]
    if reference is None:
        best = _best([group.fit for group in groups])
        return [best] * len(groups), group_name(rows[best], columns) if columns else ""
    if not isinstance(reference, Mapping):
        reference = {(columns or GROUPS)[0]: reference}
    for column in reference:
        if column not in columns:
            raise TableError(
                f"reference names column {column!r}, which tells no groups apart.",
                did_you_mean(column, columns),
                NO_NAME_NEEDED,
            )
    indices = [_index_of(row | dict(reference), rows) for row in rows]
    return indices, group_name(reference, reference)


def _best(fits):
    """The group with the lowest L* at the largest width at which most groups have a well."""
    known = concatenate([fit.basins.scale_W for fit in fits])
    largest = pd.Series(known).mode().max()
    losses = [fit.loss_W[fit.points.scale_W == largest] for fit in fits]
    return argmin([nanmin(loss, initial=inf) for loss in losses])


def _index_of(wanted, rows):
    """Which group has the values wanted of it."""
    for index, row in enumerate(rows):
        if all(plain_name(row[column]) == plain_name(wanted[column]) for column in row):
            return index
    name = group_name(wanted, wanted)
    known = [group_name(row, row) for row in rows]
    raise TableError(f"There is no group {name!r} in the table.", did_you_mean(name, known), NO_NAME_NEEDED)


def plain_name(name) -> str:
    """A spelling that does not depend on case nor on which μ was typed."""
    return unicodedata.normalize("NFKC", str(name)).casefold().replace("μ", "mu").strip()


def _notes(sweep, groups):
    """What befell each width that has no well, and each group whose runs miss their wells."""
    for group in groups:
        points = group.fit.points
        row = dict(zip(sweep.group_columns, group.key, strict=True))
        name = f"{group_name(row, row)} " if row else ""
        if points.thinned_W.any():
            yield (
                f"{name}{points.thinned_W.sum()} run(s) near the optima left out: {MOST_RUNS} a "
                f"{sweep.scale} are enough"
            )
        for w in flatnonzero(points.reason_W):
            yield f"{name}{sweep.scale} {points.scale_W[w]:g}{_fate(group.fit, w)}"
        if group.noise.raised > 1:
            yield (
                f"{name}lack of fit: runs miss the wells by more than repeats differ; taken for "
                f"noise, {group.noise.raised:.1f} times that of the repeats"
            )


def _bend_note(groups, scale, level):
    """What doubt about the law of η* is worth one octave beyond the largest size, and what settles
    it."""
    worth = []
    for group in groups:
        size = 2 * group.fit.points.scale_W[-1]
        octaves = group.bend_worth(size, level)
        if octaves >= 0.01:
            worth.append(octaves)
    if not worth:
        return
    octaves = f"{min(worth):.2f}"
    if len(worth) > 1:
        octaves += f" to {max(worth):.2f}"
    yield (
        f"at {scale} {plain_number(size):g}, one octave beyond the largest, a bend of the law that these "
        f"sizes cannot show makes the interval of log2 η* {octaves} octaves wider; runs there would settle it"
    )


def _fate(fit, w):
    """What becomes of a width's runs, and whether the law of the others agrees with its edge."""
    reason = fit.points.reason_W[w]
    if w in fit.edges:
        return f": {reason}; its runs take part in the law of width, not in E"
    said = f" left out of the fit: {reason}"
    if reason != EDGE or fit.law is None:
        return said
    ((there,),) = fit.law.log2_lr(fit.points.scale_W[w])
    low, high = fit.points.tried_Wx2[w]
    agrees = there >= high - 0.5
    if fit.points.edge_W[w] == "low":
        agrees = there <= low + 0.5
    verdict = "as the edge says" if agrees else f"AGAINST the edge of {low:g} to {high:g}"
    return f"{said}; the law of the other widths puts log2 η* at {there:.1f} there, {verdict}"


def _tables(groups, columns, scale, level):
    """The report's figures, basins, penalty and laws."""
    rows = {"figures": {}, "basins": {}, "penalty": {}, "laws": {}}
    for group in groups:
        reference = groups[group.reference]
        rows["figures"][group.key] = [figure_row(group, reference, level)]
        rows["basins"][group.key] = basin_rows(group, level, scale)
        rows["penalty"][group.key] = penalty_rows(group, reference, level, scale)
        rows["laws"][group.key] = [_law_row(group)]
    return {name: table_of(columns, table_rows) for name, table_rows in rows.items()}


@np.errstate(over="ignore")
def _law_row(group):
    """The law's parameters at width 1, the basin's skew, and the noise."""
    law = group.fit.law
    theta = full(7, nan) if law is None else law.theta_Bx7[0]
    scale0 = 1.0 if law is None else law.scale0
    L_inf, A, alpha, ln_lr, beta, _, gamma_log = theta
    return {
        "L_inf": L_inf,
        "A": A * scale0**alpha,
        "log2_lr_1": ln_lr / LN2 + beta * log2(scale0),
        "alpha": alpha,
        "beta": beta,
        "gamma_log": gamma_log,
        "skew": group.fit.skew,
        "noise": hypot(group.noise.sd, group.noise.common_sd),
        "common_noise": group.noise.common_sd,
        "inflation": group.replicates.inflation if group.replicates else nan,
        "drift": group.replicates.bend.sigma if group.replicates and law else nan,
    }
