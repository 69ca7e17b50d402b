"""The main job: train what is missing, execute the notebooks, judge the claims, write the report."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hpt.analysis.compare import gap_closed
from hpt.analysis.regret import transfer_regret
from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import NotebookError
from hpt.exercises.bets import Bets
from hpt.files import StrPath, check_writable
from hpt.metrics.quantities import decay_column
from hpt.metrics.report import TransferReport
from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import check_claims
from hpt.notebooks.expectations import reference_claims
from hpt.notebooks.kernels import preload, threads_of_each
from hpt.notebooks.pages import page_body, write_report
from hpt.notebooks.runner import choose_notebooks, earlier, notebooks_at_once, run_notebooks
from hpt.notebooks.source import header, read_notebook
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.display import figure_svg, stacked
from hpt.plots.figures import plot_basins
from hpt.plots.phase_page import write_phase_page
from hpt.plots.play_page import write_play_page
from hpt.runs.environment import environment_facts
from hpt.runs.result import RunResult
from hpt.runs.store import Store
from hpt.study.controls import NAMES, warmup_studies
from hpt.study.cost import duration
from hpt.study.profiles import load_profile
from hpt.study.study import Study
from hpt.study.together import Todo, cost_together, run_together

BETS = "Your bets: the share that was right (four in five, of 80 % intervals), beside knowing nothing"
GAMES = "Your budget game: regret at the largest width, nats, beside par"
PHASES = "Phase diagrams: $E$, $\\kappa$ and $R(\\infty)$ of every variant in the store, with the basins"

PLAY = "To play with: where is the best learning rate of the widest model?"


def replicate(
    source: Path,
    profile: str,
    store: StrPath,
    out: Path,
    *,
    names: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    parameters: Mapping[str, str] | None = None,
    again: bool = False,
    minutes: float | None = None,
    verbose: bool = False,
) -> Path | None:
    """Run a profile's study, then its notebooks, side by side, and write one page each, the phase diagrams
    and an index.

    Parameters
    ----------
    source: folder of the notebooks.
    profile: which study.
    store: folder of run records, or its URL; what it holds is not trained again.
    out: folder of the report.
    names: beginnings of notebook names; all by default.
    device, workers: as in :meth:`hpt.Study.run`.
    parameters: for the notebooks, beside ``profile`` and ``store``.
    again: execute also the notebooks that are unchanged since their last execution.
    minutes: how long this call may take; the same call goes on.
    verbose: show what the cells print, not a line a notebook alone.

    Returns
    -------
    Path of index.html, which has all pages that are in the folder; None where the time was out before all
    runs were trained and all notebooks executed.

    Raises
    ------
    HptError: a told mistake; NotebookError names notebook and cell.
    """
    started = time.perf_counter()
    study = load_profile(profile)
    shared = store if "://" in str(store) else str(Path(store).resolve())
    given = {"profile": profile, "store": shared, **(parameters or {})}
    # Refused before the first step.
    sources = choose_notebooks(source, names, given)
    _check_folder(out)
    studies = _studies(study, sources)
    at_once = notebooks_at_once(len(sources), device)
    if pick_device(device).type != "cpu":
        # Cores have nothing to do while a GPU trains.
        preload(threads_of_each(at_once))
    run_together(studies, store, device=device, workers=workers, minutes=minutes)
    trained = time.perf_counter()
    left = None
    if minutes is not None:
        left = minutes - (trained - started) / 60
        if left <= 0 or Todo(studies, Store(store)).missing:
            return None
    kept = _kept_pages(sources, source, out)
    names = {path.stem for path in sources} | kept.keys()
    bodies = {}
    executed = run_notebooks(
        sources,
        out,
        given,
        at_once=at_once,
        minutes=left,
        state=" ".join(r.run_id for r in _stored(study, store)),
        again=again,
        echo=sys.stdout if verbose else None,
        then=lambda result: bodies.update({result.name: page_body(result, names)}),
    )
    if len(executed) < len(sources):
        print(f"time is out: {len(sources) - len(executed)} of {len(sources)} notebooks are left")
        return None
    results_of = kept | {result.name: result for result in executed}
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
    play = write_play_page(results, out / "play.html")
    return write_report(
        [results_of[name] for name in sorted(results_of)],
        out,
        facts=facts(study, results, seconds),
        claims=[*check_claims(results, report, _runs_in_words(study, results)), *reference_claims()],
        summary_tables=summary_tables(report) | your_bets(store),
        more={phases.name: PHASES, play.name: PLAY},
        bodies=bodies,
        **opening(report),
    )


def replication_cost(
    source: Path,
    profile: str,
    store: Path,
    *,
    names: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
) -> str:
    """What :func:`replicate` with the same arguments costs, in words: the runs reckoned, and of the
    notebooks what their headers say. Nothing is trained."""
    study = load_profile(profile)
    sources = choose_notebooks(source, names, {"profile": profile})
    cost = cost_together(_studies(study, sources), store, device=device, workers=workers)
    at_once = notebooks_at_once(len(sources), device)
    times = [f"  {path.stem}: {header(read_notebook(path))['Time']}" for path in sources]
    said = f"then notebooks are executed, {at_once} at a time; what each takes, its own runs included:"
    return "\n".join([str(cost), said, *times])


def _studies(study, sources):
    """The study, and what notebook 01 takes from the store beside it, so that the same workers train it."""
    asked = any(path.stem.startswith("01") for path in sources)
    if asked and set(NAMES) <= {p.name for p in study.parameterizations}:
        return [study, *warmup_studies(study)]
    return [study]


def _kept_pages(sources, source, out):
    """The notebooks of the folder, beside these, of which an earlier call left a page, by name."""
    outputs = {path: out / path.name for path in choose_notebooks(source) if path not in sources}
    return {
        path.stem: earlier(path, output)
        for path, output in outputs.items()
        if output.exists() and output.with_suffix(".html").exists()
    }


def _check_folder(out):
    """Make the report's folder; NotebookError where pages could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out)
    except OSError as error:
        raise NotebookError(
            f"the report cannot be written into {str(out)!r}: {error}.",
            "a file in the way, no rights or a full disk",
            "another folder, --out FOLDER",
        ) from error


def facts(study: Study, results: Sequence[RunResult], seconds: Mapping[str, float]) -> dict[str, str]:
    """What the study ran on and with, for the report's index."""
    data = load(study.base.data)
    model = study.base.model
    train = study.base.train
    devices = {f"{r.device}, {r.precision} ({r.precision_reason})" for r in results}
    diverged = sum(r.diverged for r in results)
    widths = ", ".join(map(str, study.widths))
    of_model = (
        f"{model.depth} layers",
        f"widths {widths}",
        f"heads of {model.d_head}",
        f"vocabulary {model.vocab_size}",
        f"context {model.context}",
    )
    of_training = (
        f"{train.steps} steps of {train.batch_size} × {model.context} tokens",
        f"warm-up {train.warmup_steps} steps",
        f"{train.schedule} schedule",
    )
    return {
        "profile": study.name,
        "runs": f"{len(results)}, of which {diverged} diverged",
        "device": "; ".join(sorted(devices)),
        "model": ", ".join(of_model),
        "training": ", ".join(of_training),
        **data.facts,
        "data_fingerprint": data.fingerprint,
        "training time of all runs": duration(sum(r.seconds for r in results)),
        "this call": ", ".join(f"{part} {duration(took)}" for part, took in seconds.items()),
        **environment_facts(),
    }


def opening(report: TransferReport) -> dict[str, Any]:
    """What the index opens with: the basins, and what a rate tuned at a smaller width costs at the
    largest, at the smallest weight decay."""
    basins = plot_basins(report)
    pictures = {"wide": figure_svg(basins), "narrow": figure_svg(stacked(basins))}
    decay = report.table[decay_column(report.group_columns)]
    regret = transfer_regret(report.table[decay == decay.min()])
    prices = regret.pivot(index="parameterization", columns="width", values=["unchanged", "scaled"])
    return {"pictures": pictures, "regret": prices}


def _runs_in_words(study, results):
    """Which runs these are, and how large."""
    widths = study.widths
    return f"yours: profile `{study.name}`, {len(results)} runs, widths {min(widths)} to {max(widths)}"


def summary_tables(report: TransferReport) -> dict[str, pd.DataFrame]:
    """The report's tables of the index: optima, the share of the gap, the metrics."""
    optima = ("width", "log2_lr", "loss", "edge", "n", "determined", "reason")
    shares = ("width", "share", "gap", "determined", "reason", "n")
    metrics = ("E", "E_extrap", "octave_error", "kappa", "R")
    tables = {"Optimal hidden learning rate and loss there, by width": _shown(report.basins, optima)}
    if {"SP", "SP+Embd", "μP"} <= set(report.basins["parameterization"]):
        caption = "Share of the gap from SP to μP that SP+Embd closes"
        tables[caption] = _shown(gap_closed(report), shares)
    caption = f"E, κ and R(∞) against {report.reference}, with {100 * report.level:g}\u00a0% intervals"
    tables[caption] = _shown(report.to_frame(), metrics)
    return tables


def your_bets(store: StrPath) -> dict[str, pd.DataFrame]:
    """How well the reader of the notebooks has bet and played so far; empty before."""
    bets = Bets(store)
    tables = {BETS: bets.calibration(), GAMES: bets.regrets()}
    return {caption: table for caption, table in tables.items() if not table.empty}


def _stored(study, store):
    """The study's results, and those of the others of the sixteen that the store happens to
    hold."""
    own = {p.name for p in study.parameterizations}
    others = tuple(p for p in PARAMETERIZATIONS if p.name not in own)
    every = dataclasses.replace(study, parameterizations=study.parameterizations + others)
    return every.results(store)


def _report(results):
    table = pd.DataFrame([r.row() for r in results])
    return transfer_report(table, reference="μP", loss_unit="nats")


def _shown(table, names):
    """The named columns with their intervals and remarks, after the group's; its weight decay only
    where there are several."""
    decay = decay_column(table)
    if table[decay].nunique() == 1:
        table = table.drop(columns=decay)
    names = ("parameterization", decay, *names)
    ends = ("", "_low", "_high", "_determined", "_reason")
    return table.filter([name + end for name in names for end in ends])
