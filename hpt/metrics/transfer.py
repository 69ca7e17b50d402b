"""How well the learning rate transfers: a table of a sweep in, E, κ, R(∞), a predicted η* and their
verdicts out.

Near the optimum L(n, η) ≈ L∞ + A·n^(−α) + ½·h(n)·(ln η − ln η*(n))², with η* ∝ n^(−β) and h ∝
n^γ_log. From it, after Kalra & Barkeshli 2026 (arXiv 2605.21486):

- E, the error of the joint fit; they publish no norm, ours is the root-mean-square residual in nats
over the runs kept
  in the basins. E_extrap is the same at the largest width when the fit leaves it out, octave_error
  the distance between predicted and measured log2 η* there. Their intervals are for what repeats of
  the sweep would give on average.
- κ = α − 2β + γ, with γ the exponent of ∂²L/∂η²; since γ_log = γ − 2β, κ = α + γ_log. Below 0 a
mistake of some octaves
  matters less, relative to the reducible loss, as the model grows.
- R(∞), L∞ minus that of a reference; R(n), L* minus the reference's at one width, which needs no
extrapolation.
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
from hpt.metrics.basin import EDGE, gather
from hpt.metrics.group import GroupFit, fit_group
from hpt.metrics.noise import CommonNoise, Noise, common_noise, noise_of
from hpt.metrics.replicates import Replicates, SharedDraws, replicate, seeds_to_resample
from hpt.metrics.report import Group, TransferReport
from hpt.metrics.table import SweepTable, read_table
from hpt.metrics.verdicts import (
    asymptotic_penalty,
    basin_rows,
    group_figures,
    penalty_rows,
    table_of,
)


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
            settings. A mapping: values of the group
        columns.
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
    fits, drawn, noises = _fit_all(sweep, bootstraps, seed, resample)
    ref, label = _references(sweep, fits, reference)
    groups = tuple(map(Group, fits, noises, drawn, ref))
    tables = _tables(groups, sweep.group_columns, scale, level)
    notes = sweep.notes + tuple(_left_out(sweep, fits, noises))
    settings = label, scale, sweep.group_columns, level, bootstraps
    return TransferReport(sweep.frame, *tables, *settings, notes, groups)


def _tables(groups: Sequence[Group], columns: tuple[str, ...], scale: str, level: float):
    """The report's figures, basins, penalty and laws."""
    figures, penalties, wells, laws = [], [], [], []
    for group in groups:
        fit, reps, reference = group.fit, group.replicates, groups[group.reference]
        row = {
            k: v
            for name, f in group_figures(fit, reps, level).items()
            for k, v in f.columns(name).items()
        }
        pair = (fit, reps, reference.fit, reference.replicates, level)
        figures.append([row | asymptotic_penalty(*pair).columns("R")])
        penalties.append(penalty_rows(*pair, scale))
        wells.append(basin_rows(fit, reps, level, scale))
        laws.append([_law_row(fit, reps, group.noise)])
    return [
        table_of([group.key for group in groups], columns, rows)
        for rows in (figures, wells, penalties, laws)
    ]


def with_groups(
    report: TransferReport, groups: Sequence[Group], notes: Sequence[str]
) -> TransferReport:
    """The report with other groups in the place of its own, all tables made anew."""
    tables = _tables(groups, report.group_columns, report.scale, report.level)
    names = ("figures", "basins", "penalty", "laws")
    return replace(
        report, **dict(zip(names, tables, strict=True)), notes=tuple(notes), groups=tuple(groups)
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
    fits, drawn, _ = _fit_all(sweep, bootstraps, seed, resample)
    rows = [basin_rows(f, d, level, scale) for f, d in zip(fits, drawn, strict=True)]
    return table_of([f.key for f in fits], sweep.group_columns, rows)


def _fit_all(sweep: SweepTable, bootstraps: int, seed: int, resample: str):
    """Fits, noise and replicates of every group; the noise that seeds share is drawn once for all
    of them."""
    if not len(sweep.frame):
        raise TableError(
            "The table has no usable row.", "; ".join(sweep.notes), "a table with one row a run"
        )
    fits = [fit_group(key, gather(rows, sweep.scale)) for key, rows in sweep.groups()]
    alone = int(sweep.frame.seed.max()) == 0
    noises = noise_of([f.scatter for f in fits], sweep.paired or alone)
    common = (
        common_noise(fits, [n.sd for n in noises], sweep.paired)
        if sweep.paired or alone
        else CommonNoise.none()
    )
    noises = [replace(n, common_sd=common.sd) for n in noises]
    scales = np.unique(sweep.frame[sweep.scale])
    basins_G = [f.points.take(f.fitted) for f in fits if len(f.fitted)]
    seeds_W = seeds_to_resample(resample, basins_G, scales, sweep.paired)
    root = np.random.SeedSequence(seed)
    shape = bootstraps, len(scales), int(sweep.frame.seed.max()) + 1
    shared_rng = np.random.default_rng(root.spawn(1)[0])
    shared = SharedDraws.draw(common, shape, shared_rng, seeds_W)
    drawn = []
    for fit, noise, child in zip(fits, noises, root.spawn(len(fits)), strict=True):
        at = np.searchsorted(scales, fit.points.scale_W)
        drawn.append(replicate(fit, noise, shared.take(at), np.random.default_rng(child)))
        if not sweep.paired:  # without labels nobody knows which runs share their batches
            shared = SharedDraws.draw(common, shape, shared_rng)
    return fits, drawn, noises


def _law_row(fit: GroupFit, drawn: Replicates | None, noise: Noise) -> dict[str, float]:
    row = dict.fromkeys(("L_inf", "A", "log2_lr_1", "alpha", "beta", "gamma_log"), np.nan)
    if fit.law is not None:
        L_inf, a, alpha, ln_lr, beta, _, gamma_log = map(float, fit.law.theta_Bx7[0])
        log2_lr_1 = ln_lr / np.log(2) + beta * np.log2(fit.law.scale0)
        row = {
            "L_inf": L_inf,
            "A": a * fit.law.scale0**alpha,
            "log2_lr_1": log2_lr_1,
            "alpha": alpha,
            "beta": beta,
            "gamma_log": gamma_log,
        }
    noise_sd = float(np.hypot(noise.sd, noise.common_sd))
    return row | {
        "skew": fit.skew,
        "noise": noise_sd,
        "common_noise": noise.common_sd,
        "inflation": drawn.inflation if drawn else np.nan,
    }


def _left_out(sweep: SweepTable, fits: list[GroupFit], noises: list[Noise]):
    """One note for every width that has no well, and for every group whose runs miss their
    wells."""
    for fit, noise in zip(fits, noises, strict=True):
        for w, (value, reason) in enumerate(
            zip(fit.points.scale_W, fit.points.reason_W, strict=True)
        ):
            if w in fit.edges:
                yield (
                    f"{label_of(fit.key)}{sweep.scale} {value:g}: {reason}; its runs take part in the law of width, "
                    "not in E"
                )
            elif reason:
                said = f"{label_of(fit.key)}{sweep.scale} {value:g} left out of the fit: {reason}"
                yield said + _against_law(fit, value, reason)
        if noise.raised > 1:
            yield (
                f"{label_of(fit.key)}lack of fit: runs miss the wells by more than repeats differ; taken for noise, "
                f"{noise.raised:.1f} times that of the repeats"
            )


def _against_law(fit: GroupFit, scale: float, reason: str) -> str:
    """Whether the law of the other widths agrees that the optimum lies beyond the edge."""
    if reason != EDGE or fit.law is None:
        return ""
    w = int(np.flatnonzero(fit.points.scale_W == scale)[0])
    there = float(fit.law.wells([scale])[0][0, 0] / np.log(2))
    low, high = fit.points.tried_Wx2[w]
    beyond = there <= low + 0.5 if fit.points.edge_W[w] == "low" else there >= high - 0.5
    return f"; the law of the other widths puts log2 η* at {there:.1f} there, " + (
        "as the edge says" if beyond else f"AGAINST the edge of {low:g} to {high:g}"
    )


def label_of(key: tuple) -> str:
    """A group's name in a sentence; "" for the only one."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in key) + (
        " " if key else ""
    )


def plain_name(name: Any) -> str:
    """A spelling that does not depend on case nor on which μ was typed."""
    return unicodedata.normalize("NFKC", str(name)).casefold().replace("μ", "mu").strip()


def _references(sweep: SweepTable, fits: list[GroupFit], reference) -> tuple[list[int], str]:
    """For each group the index of its reference, and the reference's name."""
    if reference is None:
        scales, groups = np.unique(
            np.concatenate([f.points.scale_W[f.fitted] for f in fits]), return_counts=True
        )
        at = scales[groups == groups.max()].max() if len(scales) else np.nan
        losses = [np.nanmin(np.append(f.loss_W[f.points.scale_W == at], np.inf)) for f in fits]
        best = int(np.argmin(losses))
        return [best] * len(fits), label_of(fits[best].key).strip()
    first = (sweep.group_columns or ("parameterization",))[0]
    wanted = reference if isinstance(reference, Mapping) else {first: reference}
    unknown = [c for c in wanted if c not in sweep.group_columns]
    if unknown:
        raise TableError(
            f"reference names column {unknown[0]!r}, which tells no groups apart.",
            did_you_mean(unknown[0], sweep.group_columns),
            "reference=None compares with the best group",
        )
    return [_matching(sweep, fits, fit, wanted) for fit in fits], label_of(
        tuple(wanted.values())
    ).strip()


def _matching(
    sweep: SweepTable, fits: list[GroupFit], fit: GroupFit, wanted: Mapping[str, Any]
) -> int:
    """The group that has the wanted values, and is like `fit` in all other columns."""
    target = [wanted.get(c, v) for c, v in zip(sweep.group_columns, fit.key, strict=True)]
    for index, other in enumerate(fits):
        if all(plain_name(a) == plain_name(b) for a, b in zip(other.key, target, strict=True)):
            return index
    known = sorted({label_of(f.key).strip() for f in fits})
    name = label_of(tuple(target)).strip()
    raise TableError(
        f"There is no group {name!r} in the table.",
        did_you_mean(name, known),
        f"reference={known[0]!r}, or reference=None for the best group",
    )
