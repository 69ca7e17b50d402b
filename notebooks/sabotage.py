"""Find the sabotage: optimizers for μP, each with one fault or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch

from hpt.errors import did_you_mean

#: Of each fault: whose learning rate is wrong, and by which power of m and which constant.
FAULTS = {
    "none": ("hidden", 0, 1),
    "hidden not ÷ m": ("hidden", 1, 1),
    "hidden ÷ √m": ("hidden", 0.5, 1),
    "readout not ÷ m": ("readout", 1, 1),
    "embedding ÷ m": ("embedding", -1, 1),
    "embedding ÷ 16": ("embedding", 0, 1 / 16),
    "vectors ÷ m": ("vector", -1, 1),
}
NAMES = "ABCDEFGH"


class Sabotage:
    """Eight optimizers in an order that the seed draws: each of :data:`FAULTS`, and one of them twice.

    Use the groups of the rule "mup-table3".
    """

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        faults = [*FAULTS, rng.choice(list(FAULTS))]
        self._fault_of = dict(zip(NAMES, rng.permutation(faults).tolist(), strict=True))

    def optimizer(self, name: str) -> Callable[[list[dict]], torch.optim.Optimizer]:
        """What makes the optimizer of that name of groups, for :func:`hpt.coord_check` or a loop."""
        role, power, constant = FAULTS[self._fault_of[name]]

        def make(groups):
            rate_of = {group["name"]: group["lr"] for group in groups}
            m = rate_of["embedding"] / rate_of["hidden"]
            wrong = constant * m**power
            changed = [g | {"lr": g["lr"] * wrong} if g["name"] == role else g for g in groups]
            return torch.optim.AdamW(changed, betas=(0.9, 0.95))

        return make

    def hand_in(self, diagnosis: Mapping[str, str]) -> pd.DataFrame | None:
        """Score a diagnosis, name → fault: one row each, with the truth of those that were handed in; None
        where none was."""
        rows = []
        for name, given in diagnosis.items():
            truth = self._fault_of.get(name)
            if truth is None or given not in FAULTS:
                print(f"✗ {name}: {given!r} is no fault. {did_you_mean(str(given), FAULTS)}")
            else:
                rows.append((name, given, truth, given == truth))
        found = pd.DataFrame(rows, columns=["optimizer", "yours", "truth", "right"])
        print(f"{found['right'].sum()} of {len(NAMES)} found. The faults: {', '.join(FAULTS)}.")
        return found.set_index("optimizer") if rows else None
