"""The main job: train what is missing, execute the notebooks, judge the claims, write the report."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hpt.analysis.compare import gap_closed
from hpt.data.source import load
from hpt.metrics.quantities import decay_column
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import check_claims
from hpt.notebooks.pages import write_report
from hpt.notebooks.runner import run_notebooks
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.phase_page import write_phase_page
from hpt.runs.environment import environment_facts
from hpt.runs.result import RunResult
from hpt.study.cost import duration
from hpt.study.profiles import load_profile
from hpt.study.study import Study

PHASES = "Phase diagrams: $E$, $\\kappa$ and $R(\\infty)$ of every variant in the store, with the basins"


def replicate(
    source: Path,
    profile: str,
    store: Path,
    out: Path,
    *,
    names: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    parameters: Mapping[str, str] | None = None,
    again: bool = False,
) -> Path:
    """Run a profile's study, then its notebooks, and write one page each, the phase diagrams and an
    index.

    Parameters
    ----------
    source: folder of the notebooks.
    profile: which study.
    store: folder of run records; what it holds is not trained again.
    out: folder of the report.
    names: beginnings of notebook names; all by default.
    device, workers: as in :meth:`hpt.Study.run`.
    parameters: for the notebooks, beside ``profile`` and ``store``.
    again: execute also the notebooks that are unchanged since their last execution.

    Returns
    -------
    Path of index.html, which exists only if everything worked.

    Raises
    ------
    HptError: a told mistake; NotebookError names notebook and cell.
    """
    started = time.perf_counter()
    study = load_profile(profile)
    (out / "index.html").unlink(missing_ok=True)
    study.run(store, device=device, workers=workers)
    trained = time.perf_counter()
    pages = run_notebooks(
        source,
        out,
        {"profile": profile, "store": str(store.resolve()), **(parameters or {})},
        only=names,
        state=" ".join(r.run_id for r in _stored(study, store)),
        again=again,
        echo=sys.stdout,
    )
    seconds = {"runs": trained - started, "notebooks": time.perf_counter() - trained}

    # read again: a notebook may have trained more
    stored = _stored(study, store)
    results = [r for r in stored if r.config.parameterization in study.parameterizations]
    report = _report(results)
    phases = write_phase_page(
        report if len(results) == len(stored) else _report(stored),
        out / "phases.html",
        title=f"Phase diagrams of transfer, profile {study.name}",
    )
    return write_report(
        pages,
        out,
        facts=facts(study, results, seconds),
        claims=check_claims(results, report),
        summary_tables=summary_tables(report),
        more={phases.name: PHASES},
    )


def facts(study: Study, results: Sequence[RunResult], seconds: Mapping[str, float]) -> dict[str, str]:
    """What the study ran on and with, for the report's index."""
    data = load(study.base.data)
    model = study.base.model
    train = study.base.train
    devices = {f"{r.device}, {r.precision} ({r.precision_reason})" for r in results}
    return {
        "profile": study.name,
        "runs": f"{len(results)}, of which {sum(r.diverged for r in results)} diverged",
        "device": "; ".join(sorted(devices)),
        "model": f"{model.depth} layers, widths {', '.join(map(str, study.widths))}, heads of "
        f"{model.d_head}, vocabulary {model.vocab_size}, context {model.context}",
        "training": f"{train.steps} steps of {train.batch_size} × {model.context} tokens, warm-up "
        f"{train.warmup_steps} steps, {train.schedule} schedule",
        **data.facts,
        "data_fingerprint": data.fingerprint,
        "training time of all runs": duration(sum(r.seconds for r in results)),
        "this call": ", ".join(f"{part} {duration(took)}" for part, took in seconds.items()),
        **environment_facts(),
    }


def summary_tables(report: TransferReport) -> dict[str, pd.DataFrame]:
    """The report's tables of the index: optima, the share of the gap, the metrics."""
    optima = ("width", "log2_lr", "loss", "edge", "n", "determined", "reason")
    shares = ("width", "share", "gap", "determined", "reason", "method", "n")
    metrics = ("E", "E_extrap", "octave_error", "kappa", "R")
    tables = {"Optimal hidden learning rate and loss there, by width": _shown(report.basins, optima)}
    if {"SP", "SP+Embd", "μP"} <= set(report.basins["parameterization"]):
        caption = "Share of the gap from SP to μP that SP+Embd closes"
        tables[caption] = _shown(gap_closed(report), shares)
    caption = f"E, κ and R(∞) against {report.reference}, with {report.level:.0%} intervals"
    tables[caption] = _shown(report.to_frame(), metrics)
    return tables


def _stored(study, store):
    """The study's results, and those of the others of the sixteen that the store happens to
    hold."""
    own = {p.name for p in study.parameterizations}
    others = tuple(p for p in PARAMETERIZATIONS if p.name not in own)
    every = dataclasses.replace(study, parameterizations=study.parameterizations + others)
    return every.results(store)


def _report(results):
    return transfer_report(pd.DataFrame([r.row() for r in results]), reference="μP")


def _shown(table, names):
    """The named columns with their intervals and remarks, after the group's; its weight decay only
    where there are several."""
    decay = decay_column(table)
    if table[decay].nunique() == 1:
        table = table.drop(columns=decay)
    names = ("parameterization", decay, *names)
    ends = ("", "_low", "_high", "_determined", "_reason")
    return table.filter([name + end for name in names for end in ends])
