"""TODO."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpt.runs.run_config import RunConfig


@dataclass(frozen=True)
class RunResult:
    """What one run gave.

    Attributes
    ----------
    config: the run's configuration.
    run_id: its content hash.
    val_loss: final validation loss, nats a token; inf if the run diverged.
    train_loss: loss of each step's batch before its update, float32 (steps,); shorter if diverged.
    diverged: whether the loss became NaN or passed the bound.
    seconds: wall time of training and validation.
    tokens_per_second: training tokens over training time.
    parameters: trainable parameters.
    tokens: training tokens seen.
    device, precision, precision_reason: where and how it ran, and why so.
    data_fingerprint: of the tokens.
    versions: of hpt, torch and Python.
    stacked: how many runs were trained at once, this one included: such runs equal those trained
        alone to rounding.
    compiled: whether its step was one compiled program (:mod:`hpt.training.compiled`): equal to
        rounding too.
    threads: of the CPU, while it trained; with another number it is equal to rounding too.
    """

    config: RunConfig
    run_id: str
    val_loss: float
    train_loss: np.ndarray = field(repr=False)
    diverged: bool
    seconds: float
    tokens_per_second: float
    parameters: int
    tokens: int
    device: str
    precision: str
    precision_reason: str
    data_fingerprint: str
    versions: dict[str, str]
    stacked: int = 1
    compiled: bool = False
    threads: int = 1

    def row(self) -> dict:
        """One row of a study's table."""
        c = self.config
        return {
            "parameterization": str(c.parameterization),
            "base_width": c.parameterization.base_width,
            "width": c.model.width,
            "lr": c.train.lr,
            "log2_lr": float(np.log2(c.train.lr)),
            "weight_decay": c.train.weight_decay,
            "seed": c.seed,
            "loss": self.val_loss,
            "diverged": self.diverged,
            "steps": len(self.train_loss),
            "tokens": self.tokens,
            "parameters": self.parameters,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "device": self.device,
            "precision": self.precision,
            "run_id": self.run_id,
        }


def encode(result: RunResult) -> bytes:
    """Two lines: the checksum of the second, and the record as JSON."""
    values: dict[str, Any] = {**vars(result), "config": result.config.to_dict()}
    values["val_loss"] = result.val_loss if np.isfinite(result.val_loss) else None
    # The shortest decimals that give the same float32 back; JSON has no NaN.
    values["train_loss"] = [
        float(str(x)) if np.isfinite(x) else None for x in np.float32(result.train_loss)
    ]
    body = json.dumps(values, sort_keys=True, allow_nan=False).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def decode(text: bytes, run_id: str) -> RunResult:
    """The inverse of :func:`encode`.

    Raises
    ------
    ValueError, KeyError, TypeError, ConfigError: for a damaged record, or one of another run.
    """
    checksum, _, body = text.partition(b"\n")
    if hashlib.sha256(body.removesuffix(b"\n")).hexdigest().encode() != checksum:
        raise ValueError("its checksum does not match its content")
    values = json.loads(body)
    if values["run_id"] != run_id:
        raise ValueError(f"it holds run {values['run_id']}")
    values["config"] = RunConfig.from_dict(values["config"])
    values["val_loss"] = float("inf") if values["val_loss"] is None else values["val_loss"]
    values["train_loss"] = np.array(
        [np.nan if x is None else x for x in values["train_loss"]], dtype=np.float32
    )
    return RunResult(**values)
