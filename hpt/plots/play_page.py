"""A page to play with before any install: plant a flag at the optimum of the widest model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hpt.plots.html_page import plain, write_html_page
from hpt.runs.result import RunResult

TITLE = "Where is the best learning rate of the wide model?"
#: The three of the story come first, the others behind.
FIRST = ("SP", "SP+Embd", "μP")


def write_play_page(results: Sequence[RunResult], path: str | os.PathLike) -> Path:
    """Write finished runs as one HTML file to play with, without network.

    The widest model's basin is hidden until the reader has planted a flag; then the page says what the
    flag costs in nats, and what the rate of the smallest width would, as it is and scaled by 1/n.

    Parameters
    ----------
    results: runs of several widths and of any variants; those of one warm-up belong together.
    path: the file to write.
    """
    return write_html_page("play.html", page_data(results), path)


def page_data(results: Sequence[RunResult]) -> dict[str, Any]:
    """What the page draws: mean losses over seeds of each variant, warm-up, width and rate.

    Variants that lack a width are left out, and so is the warm-up of which none has all; a further warm-up
    of a variant needs the largest width alone.
    """
    rows = [result.row() | {"warmup": result.config.train.warmup_steps} for result in results]
    table = pd.DataFrame(rows).query("not diverged")
    widths = sorted(set(table["width"].tolist()))
    variants = {}
    groups = table.groupby(["parameterization", "warmup"], sort=False)
    for (name, warmup), runs in groups:
        own = set(runs["width"])
        further = name in variants and widths[-1] in own
        if further or own == set(widths):
            variants.setdefault(name, {})[int(warmup)] = _basins(runs)
    names = dict.fromkeys([*FIRST, *variants])
    shown = [{"name": name, "basins": variants[name]} for name in names if name in variants]
    known = set().union(*variants.values())
    known = sorted(known, reverse=True)
    return plain(
        {
            "title": TITLE,
            "widths": widths,
            "variants": shown,
            "warmups": known,
            "steps": results[0].config.train.steps,
            "runs": len(results),
        }
    )


def _basins(runs):
    """For each width the rates in order with their mean losses."""
    basins = {}
    for width, of_width in runs.groupby("width"):
        means = of_width.groupby("log2_lr")["loss"].mean()
        basins[int(width)] = list(means.items())
    return basins
