"""What a notebook trains beside a study: a shorter warm-up (01)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

#: A stress test warms up for the study's steps divided by this.
SHORTER = 8
NAMES = ("SP", "SP+Embd", "μP")


def warmup_studies(study, parameterizations: Iterable[str] = NAMES) -> list:
    """Studies of runs with a short warm-up and with that of the study itself: three learning rates
    two octaves apart, so that a mistake of two octaves is among them wherever the optimum lies, at its
    second largest width, which costs a fraction of the largest.

    Parameters
    ----------
    study: a :class:`hpt.Study`.
    parameterizations: which of its own.
    """
    width = study.widths[-2:][0]
    lowest = study.log2_lrs[width][-5:][0]
    rates = tuple(lowest + octaves for octaves in (0, 2, 4))
    # These learning rates and no more, one seed each.
    fixed = {"search": "grid", "seeds": 1, "best_seeds": 1, "best_neighbours": {}, "only": {}, "extend": 0}
    part = study.select(parameterizations, [width])
    part = dataclasses.replace(part, log2_lrs={width: rates}, **fixed)
    steps = study.base.train.warmup_steps
    warmups = sorted({max(1, steps // SHORTER), steps})
    return [_with_warmup(part, warmup) for warmup in warmups]


def _with_warmup(study, steps):
    train = dataclasses.replace(study.base.train, warmup_steps=steps)
    base = dataclasses.replace(study.base, train=train)
    return dataclasses.replace(study, name=f"warm-up {steps}", base=base)
