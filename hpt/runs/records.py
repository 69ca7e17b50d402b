"""A run's result as the bytes of its record, and back: JSON behind a checksum."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from hpt.runs.run_config import RunConfig, RunResult


def encode(result: RunResult) -> bytes:
    """Two lines: the checksum of the second, and the record as JSON."""
    values: dict[str, Any] = {**vars(result), "config": result.config.to_dict()}
    values["val_loss"] = result.val_loss if np.isfinite(result.val_loss) else None
    # The shortest decimals that give the same float32 back; JSON has no NaN.
    values["train_loss"] = [float(str(x)) if np.isfinite(x) else None for x in np.float32(result.train_loss)]
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
    values["train_loss"] = np.array([np.nan if x is None else x for x in values["train_loss"]], dtype=np.float32)
    return RunResult(**values)
