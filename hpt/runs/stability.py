"""How smoothly a run trains: its loss curve against that of a stable run on the same batches."""

from __future__ import annotations

from numpy import diff, float64, isfinite, mean, ndarray, sqrt

from hpt.errors import ConfigError
from hpt.runs.result import RunResult


def excess_loss(run: RunResult, stable: RunResult) -> ndarray:
    """Loss curve minus that of a stable run on the same batches, nats, float64 (steps,).

    Both saw the same tokens at each step, so the noise of the batches cancels; what remains is what
    training did. Diverged runs give a shorter curve.

    Raises
    ------
    ConfigError: where the two saw different batches.
    """
    if _batches(run) != _batches(stable):
        raise ConfigError(
            "the two runs saw different batches, so the batch noise does not cancel.",
            "another seed, data, batch size or context",
            "two runs of one study with one seed",
        )
    steps = min(len(run.train_loss), len(stable.train_loss))
    return run.train_loss[:steps].astype(float64) - stable.train_loss[:steps]


def _batches(run):
    c = run.config
    return run.data_fingerprint, c.seed, c.train.batch_size, c.model.context


def roughness(run: RunResult, stable: RunResult, skip: float = 0.1) -> float:
    """Root-mean-square step-to-step change of the excess loss, nats; nan for fewer than ten steps.

    A slow run has a large but smooth excess; an unstable one has a rough excess.

    Parameters
    ----------
    skip: share of the steps left out at the start, where all runs fall fast.
    """
    excess = excess_loss(run, stable)
    changes = diff(excess[int(skip * len(excess)) :])
    changes = changes[isfinite(changes)]
    if len(changes) < 10:
        return float("nan")
    return float(sqrt(mean(changes**2)))
