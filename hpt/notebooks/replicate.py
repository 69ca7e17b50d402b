"""The main job: train what is missing, execute the notebooks, write the report."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from hpt.analysis.compare import gap_closed
from hpt.data.source import load
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import claims
from hpt.notebooks.pages import duration, write_report
from hpt.notebooks.runner import run_notebooks
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.phase_page import write_phase_page
from hpt.runs.result import RunResult
from hpt.study.profiles import load_profile
from hpt.study.study import Study

PHASES = (
    "Phase diagrams: $E$, $\\kappa$ and $R(\\infty)$ of every variant in the store, with the basins"
)


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
    state = " ".join(r.run_id for r in _all_that_is_there(study, store))
    pages = run_notebooks(
        source,
        out,
        {"profile": profile, "store": str(store.resolve()), **(parameters or {})},
        only=names,
        state=state,
        again=again,
        echo=sys.stdout,
    )
    everything = _all_that_is_there(study, store)  # again: a notebook may have trained more
    results = [r for r in everything if r.config.parameterization in study.parameterizations]
    report = _report(results)
    widest = report if len(results) == len(everything) else _report(everything)
    phases = write_phase_page(
        widest, out / "phases.html", title=f"Phase diagrams of transfer, profile {study.name}"
    )
    seconds = {"runs": trained - started, "notebooks": time.perf_counter() - trained}
    return write_report(
        pages,
        out,
        facts=facts(study, results, seconds),
        claims=claims(results, report),
        summary_tables=summary_tables(report),
        more={phases.name: PHASES},
    )


def _all_that_is_there(study: Study, store: Path) -> list[RunResult]:
    """The study's results, and those of the others of the sixteen that the store happens to
    hold."""
    own = {p.switches for p in study.parameterizations}
    others = tuple(p for p in PARAMETERIZATIONS if p.switches not in own)
    return dataclasses.replace(study, parameterizations=study.parameterizations + others).results(
        store
    )


def _report(results: Sequence[RunResult]) -> TransferReport:
    return transfer_report(pd.DataFrame([r.row() for r in results]), reference="μP")


def facts(
    study: Study, results: Sequence[RunResult], seconds: Mapping[str, float]
) -> dict[str, str]:
    """What the study ran on and with, for the report's index."""
    data = load(study.base.data)
    devices = sorted({f"{r.device}, {r.precision} ({r.precision_reason})" for r in results})
    model, train = study.base.model, study.base.train
    return {
        "profile": study.name,
        "runs": f"{len(results)}, of which {sum(r.diverged for r in results)} diverged",
        "device": "; ".join(devices),
        "model": f"{model.depth} layers, widths {', '.join(map(str, study.widths))}, heads of {model.d_head}, "
        f"vocabulary {model.vocab_size}, context {model.context}",
        "training": f"{train.steps} steps of {train.batch_size} × {model.context} tokens, warm-up "
        f"{train.warmup_steps} steps, {train.schedule} schedule",
        **data.facts,
        "data_fingerprint": data.fingerprint,
        "training time of all runs": duration(sum(r.seconds for r in results)),
        "this call": f"runs {duration(seconds['runs'])}, notebooks {duration(seconds['notebooks'])}",
        **environment_facts(),
    }


def summary_tables(report: TransferReport) -> dict[str, pd.DataFrame]:
    """The report's tables of the index: optima, the share of the gap, the metrics."""
    ends = ("", "_low", "_high")
    basins = report.basins[
        [
            "parameterization",
            "width",
            *(f"{c}{e}" for c in ("log2_lr", "loss") for e in ends),
            "edge",
            "n",
            "determined",
            "reason",
        ]
    ]
    figures = report.to_frame()
    metrics = figures[
        [
            "parameterization",
            *(
                f"{c}{e}"
                for c in ("E", "E_extrap", "octave_error", "kappa", "R")
                for e in (*ends, "_determined", "_reason")
            ),
        ]
    ]
    tables = {"Optimal hidden learning rate and loss there, by width": basins}
    if {"SP", "SP+Embd", "μP"} <= set(basins["parameterization"]):
        tables["Share of the gap from SP to μP that SP+Embd closes"] = gap_closed(report).drop(
            columns="weight_decay", errors="ignore"
        )
    tables[f"E, κ and R(∞) against {report.reference}, with {report.level:.0%} intervals"] = metrics
    return tables


def environment_facts() -> dict[str, str]:
    """Date, versions of python, torch and hpt, platform, processor, cores and git commit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z"),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "hpt": _version("hpt"),
        "platform": platform.platform(aliased=True, terse=True),
        "processor": _processor(),
        "cores": str(cores),
        "git": _git_commit(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    if sys.platform == "darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    info = Path("/proc/cpuinfo")
    name = (
        re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if info.exists()
        else None
    )
    return name[1] if name else platform.processor() or platform.machine()


def _git_commit() -> str:
    here = Path(__file__)
    git = ("git", "-C", str(here.parent))
    tracked = _run(
        *git, "ls-files", here.name
    )  # empty for a package installed inside another repository
    commit = (
        _run(*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
        if tracked
        else ""
    )
    return commit.replace("-dirty", " (with uncommitted changes)") or "none (not run from a commit)"
