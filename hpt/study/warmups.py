"""The stress test of notebook 01: a study's runs with shorter warm-ups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

#: A stress test warms up for the study's steps divided by these.
SHORTER = (8, 3)


def warmup_studies(study, parameterizations: Iterable[str] = ("SP",)) -> list:
    """Studies of runs with ever longer warm-ups, the last that of the study itself: three learning rates,
    from the middle of the grid upwards, at its second largest width, which costs a fraction of the
    largest.

    Parameters
    ----------
    study: a :class:`hpt.Study`.
    parameterizations: which of its own.
    """
    width = study.widths[-2:][0]
    grid = study.log2_lrs[width]
    middle = min(len(grid) // 2, len(grid) - 3)
    steps = study.base.train.warmup_steps
    part = dataclasses.replace(
        study.select(parameterizations, [width]),
        log2_lrs={width: grid[middle : middle + 3]},
        search="grid",
        best_seeds=1,
        extend=0,
    )
    return [
        dataclasses.replace(
            part,
            name=f"warm-up {warmup}",
            base=dataclasses.replace(
                part.base, train=dataclasses.replace(part.base.train, warmup_steps=warmup)
            ),
        )
        for warmup in sorted({max(1, steps // k) for k in (*SHORTER, 1)})
    ]
