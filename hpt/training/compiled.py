"""Training with a compiled step, and having the program of a shape ready."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.device import pick_device
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.training.loop import Training


def train_compiled(config: RunConfig, *, data: TokenSource | None = None, device: str = "auto") -> RunResult:
    """Train one model with a compiled step.

    The first run of a shape (model, batch and roles; not learning rates, seed or steps) makes the
    program, which takes 15 to 40 s on one core; later ones, of other processes too, load it from
    ``$HPT_CACHE_DIR/programs``.

    Parameters
    ----------
    config, data, device: as in :func:`hpt.train`.

    Returns
    -------
    The result; it equals that of :func:`hpt.train` to rounding, not to the bit, and its
    ``compiled`` is True.

    Raises
    ------
    ConfigError: where the program is to be made and :func:`hpt.training.programs.obstacle` names
        one.
    """
    data = data or load(config.data)
    with contextlib.closing(Training([config], data, pick_device(device), compiled=True)) as run:
        return run.finish()[0]


def try_to_compile(configs: Sequence[RunConfig], device: str = "auto", stacked: bool = False) -> str:
    """Have the step of a stack of runs, or of one, ready on disk; why that failed, in a line, or ""."""
    try:
        Training(configs, None, pick_device(device), True, stacked)
    # Whatever a compiler and its tools may raise; eager steps do as well.
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        return f"{type(error).__name__}: {first_line}"
    return ""
