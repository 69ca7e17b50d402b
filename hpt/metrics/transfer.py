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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hpt.errors import TableError, did_you_mean
from hpt.metrics.basin import EDGE, LN2, gather
from hpt.metrics.group import fit_group
from hpt.metrics.noise import CommonNoise, common_noise, noise_of
from hpt.metrics.quantities import group_name
from hpt.metrics.replicates import SharedDraws, replicate, seeds_to_resample
from hpt.metrics.report import TransferReport
from hpt.metrics.table import GROUPS, read_table
from hpt.metrics.verdicts import Group, basin_rows, figure_row, penalty_rows, table_of

NO_NAME_NEEDED = "reference=None compares with the best group"


def transfer_report(
    table: pd.DataFrame | str | Path,
    *,
    reference: str | Mapping[str, Any] | None = None,
    by: str | Sequence[str] | None = None,
    scale: str = "width",
    bootstraps: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    resample: str = "auto",
) -> TransferReport:
    """E, κ, R(∞), η*(n) and their uncertainty, from any table of a sweep.

    Parameters
    ----------
    table: a DataFrame, or a path to .csv or .parquet, with `scale`, lr, loss (nats), and optionally
        parameterization, weight_decay, seed, diverged. Gaps, nan, inf and unequal grids are met;
        see :func:`hpt.metrics.table.read_table`.
    reference: what R compares with. None: the group with the lowest L* at the largest width at
        which all groups, or most, have a well. A name: that parameterization at equal other
        settings. A mapping: values of the group columns.
    by: more group columns.
    scale: the column that grows.
    bootstraps: replicates; their noise is described in :mod:`hpt.metrics.replicates`.
    resample: "seeds" resamples them as whole runs, alike in all groups; "parametric" draws noise of
        the size estimated from repeats and residuals; "auto" takes seeds where there are five or
        more.
    seed: of the replicates.
    level: of the intervals.

    Raises
    ------
    TableError: for a table that cannot be analysed, a reference that is not in it, or seeds to
        resample that are not.
    """
    if bootstraps < 20 or not 0 < level < 1:
        raise TableError(
            f"transfer_report(bootstraps={bootstraps}, level={level}) gives no interval.",
            remedy="transfer_report(table, bootstraps=1000, level=0.95)",
        )
    sweep = read_table(table, scale=scale, by=by, least_scales=2)
    groups = _fit_groups(sweep, bootstraps, seed, resample)
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
        notes=(*sweep.notes, *_notes(sweep, groups)),
        groups=tuple(groups),
    )


def basins(
    table: pd.DataFrame | str | Path,
    *,
    by: str | Sequence[str] | None = None,
    scale: str = "width",
    bootstraps: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    resample: str = "auto",
) -> pd.DataFrame:
    """The basins alone, as in :class:`TransferReport`; one width is enough. Arguments as
    :func:`transfer_report`."""
    sweep = read_table(table, scale=scale, by=by)
    groups = _fit_groups(sweep, bootstraps, seed, resample)
    rows = {group.key: basin_rows(group, level, scale) for group in groups}
    return table_of(sweep.group_columns, rows)


def with_groups(report: TransferReport, groups: list[Group], notes: list[str]) -> TransferReport:
    """The report with other groups in the place of its own, all tables made anew."""
    tables = _tables(groups, report.group_columns, report.scale, report.level)
    return replace(report, **tables, notes=tuple(notes), groups=tuple(groups))


def _fit_groups(sweep, bootstraps, seed, resample):
    """Every group, its own reference; the noise that seeds share is drawn once for all of them."""
    fits = [fit_group(key, gather(rows, sweep.scale)) for key, rows in sweep.groups()]
    seeds = sweep.frame.seed.max() + 1
    # Without labels nobody knows which runs share their batches, unless there is one run a cell.
    shared = sweep.paired or seeds == 1
    noises = noise_of(fits, shared)
    common = CommonNoise.none()
    if shared:
        common = common_noise(fits, [noise.sd for noise in noises], sweep.paired)
    scales = np.unique(sweep.frame[sweep.scale])
    wells = [fit.basins for fit in fits if len(fit.fitted)]
    seeds_W = seeds_to_resample(resample, wells, scales, sweep.paired)
    shared_rng, *rngs = np.random.default_rng(seed).spawn(1 + len(fits))
    shape = bootstraps, len(scales), seeds
    groups: list[Group] = []
    draws = None
    for fit, noise, rng in zip(fits, noises, rngs, strict=True):
        if draws is None or not sweep.paired:
            draws = SharedDraws.draw(common, shape, shared_rng, seeds_W)
        noise = replace(noise, common_sd=common.sd)
        at = np.searchsorted(scales, fit.points.scale_W)
        replicates = replicate(fit, noise, draws.take(at), rng)
        groups.append(Group(fit, noise, replicates, reference=len(groups)))
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
    known = np.concatenate([fit.basins.scale_W for fit in fits])
    largest = pd.Series(known).mode().max()
    losses = [fit.loss_W[fit.points.scale_W == largest] for fit in fits]
    return np.argmin([np.nanmin(loss, initial=np.inf) for loss in losses])


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
        for w in np.flatnonzero(points.reason_W):
            yield f"{name}{sweep.scale} {points.scale_W[w]:g}{_fate(group.fit, w)}"
        if group.noise.raised > 1:
            yield (
                f"{name}lack of fit: runs miss the wells by more than repeats differ; taken for "
                f"noise, {group.noise.raised:.1f} times that of the repeats"
            )


def _fate(fit, w):
    """What becomes of a width's runs, and whether the law of the others agrees with its edge."""
    reason = fit.points.reason_W[w]
    if w in fit.edges:
        return f": {reason}; its runs take part in the law of width, not in E"
    said = f" left out of the fit: {reason}"
    if reason != EDGE or fit.law is None:
        return said
    ((ln_lr,),), *_ = fit.law.wells([fit.points.scale_W[w]])
    there = ln_lr / LN2
    low, high = fit.points.tried_Wx2[w]
    agrees = there <= low + 0.5 if fit.points.edge_W[w] == "low" else there >= high - 0.5
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


def _law_row(group):
    """The law's parameters at width 1, the basin's skew, and the noise."""
    law = group.fit.law
    theta = np.full(7, np.nan) if law is None else law.theta_Bx7[0]
    scale0 = 1.0 if law is None else law.scale0
    L_inf, A, alpha, ln_lr, beta, _, gamma_log = theta
    return {
        "L_inf": L_inf,
        "A": A * scale0**alpha,
        "log2_lr_1": ln_lr / LN2 + beta * np.log2(scale0),
        "alpha": alpha,
        "beta": beta,
        "gamma_log": gamma_log,
        "skew": group.fit.skew,
        "noise": np.hypot(group.noise.sd, group.noise.common_sd),
        "common_noise": group.noise.common_sd,
        "inflation": group.replicates.inflation if group.replicates else np.nan,
    }
