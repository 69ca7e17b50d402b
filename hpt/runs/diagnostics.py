"""What a few looks into a run say of its weights, by role: their size, how fast they turn, and how well
they and their updates agree with what their layers see.

With ΔW the change of W in one step and x its layer's inputs, ‖ΔW x‖/‖W x‖ = (α_ΔW/α_W)·‖ΔW‖/‖W‖ (Kosson
et al. 2025, arXiv 2510.19093). μP takes the ratio of the alignments α as growing like √n; where it does
not, other rates are right.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from hpt.runs.result import RunResult
from hpt.runs.train_config import TrainConfig

#: The columns of a look, with what they are.
LOOKED_AT = {
    "weight_norm": "‖W‖, of all parameters of the role",
    "update": "‖ΔW‖/‖W‖ of one step",
    "weight_alignment": "α_W = ‖W x‖/(‖W‖·‖x‖), mean over layers",
    "update_alignment": "α_ΔW = ‖ΔW x‖/(‖ΔW‖·‖x‖), mean over layers",
}


def look_steps(c: TrainConfig, steps: int) -> frozenset[int]:
    """The steps that ``c.diagnostics`` looks are at: the last one, and others from the first to the end
    of the stable rate, evenly in their logarithm."""
    if not c.diagnostics:
        return frozenset()
    full_rate = steps * (1 - c.decay_fraction) if c.schedule == "wsd" else steps
    spaced = np.geomspace(1, max(1, full_rate), c.diagnostics - 1).round().astype(int) - 1
    return frozenset([*spaced.tolist(), steps - 1])


def diagnostics_table(results: Iterable[RunResult]) -> pd.DataFrame:
    """The looks into runs, a row a run, step and role.

    Parameters
    ----------
    results: of runs with ``TrainConfig(diagnostics=…)``; others give no rows.

    Returns
    -------
    DataFrame with parameterization, width, lr, log2_lr, weight_decay, dose and seed of the run, step,
    role, and weight_norm ‖W‖, update ‖ΔW‖/‖W‖, weight_alignment α_W and update_alignment α_ΔW, which are
    nan for vectors and where a norm is 0.
    """
    keys = ("parameterization", "width", "lr", "log2_lr", "weight_decay", "dose", "seed")
    rows = []
    for result in results:
        run = result.row()
        rows += [{key: run[key] for key in keys} | look for look in result.diagnostics]
    table = pd.DataFrame(rows, columns=[*keys, "step", "role", *LOOKED_AT])
    return table.astype(dict.fromkeys(LOOKED_AT, float))
