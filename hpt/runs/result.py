"""What one run gave, and the record that is kept of it.

A record is two lines: the SHA-256 of the second, and a JSON object of the fields of
:class:`RunResult` and of ``format``, the number of this layout. A field that is added later is
missing in older records and takes its default; one that a newer hpt wrote is kept aside and written
again, so a new field needs no new format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from hpt.config import field_types, from_dict
from hpt.errors import ConfigError, StoreError
from hpt.runs.run_config import RunConfig, run_decay, run_dose

#: Raised when an older hpt would misread the records. Those of format 1 do not name it.
FORMAT = 2


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
    diagnostics: of each look into the run and each role, see :func:`hpt.diagnostics_table`.
    extra: what the record of a newer hpt says beyond these fields and those of ``config``.
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
    diagnostics: list[dict[str, Any]] = field(default_factory=list, repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def row(self) -> dict[str, Any]:
        """One row of a study's table."""
        c = self.config
        return {
            "parameterization": c.parameterization.name,
            "base_width": c.parameterization.base_width,
            "width": c.model.width,
            "lr": c.train.lr,
            "log2_lr": float(np.log2(c.train.lr)),
            "weight_decay": run_decay(c),
            "dose": run_dose(c),
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
    """The record of a result."""
    values = {**vars(result), "format": FORMAT, "config": result.config.to_dict()}
    _put_back(values, values.pop("extra"))
    values["val_loss"] = _finite(result.val_loss)
    # The shortest decimals that give the same float32 back.
    values["train_loss"] = [_finite(float(str(x))) for x in np.float32(result.train_loss)]
    body = json.dumps(values, sort_keys=True, allow_nan=False).encode()
    return b"%s\n%s\n" % (_checksum(body), body)


def decode(record: bytes, run_id: str, where: object) -> RunResult:
    """The inverse of :func:`encode`.

    Parameters
    ----------
    run_id: of the run that the record should be of.
    where: what to call the record in a message.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError: for a damaged record, or one of another run.
    StoreError: for a sound record that only a newer hpt understands.
    """
    checksum, _, body = record.partition(b"\n")
    body = body.removesuffix(b"\n")
    if _checksum(body) != checksum:
        raise ValueError("its checksum does not match its content")
    values = json.loads(body)
    if values["run_id"] != run_id:
        raise ValueError(f"it holds run {values['run_id']}")
    record_format = values.pop("format", 1)
    if record_format > FORMAT:
        raise _newer(where, f"has format {record_format}; this hpt reads up to {FORMAT}")
    extra = _pop_extra(values, RunResult)
    try:
        values["config"] = from_dict(RunConfig, values["config"])
    except ConfigError as error:
        raise _newer(where, f"has a configuration that this hpt refuses: {error.what}") from error
    if values["val_loss"] is None:
        values["val_loss"] = math.inf
    train_loss = [math.nan if x is None else x for x in values["train_loss"]]
    values["train_loss"] = np.array(train_loss, dtype=np.float32)
    return RunResult(**values, extra=extra)


def _newer(where, what):
    return StoreError(
        f"run record {str(where)!r} {what}.",
        "written by a newer hpt; the record stays as it is",
        "pip install --upgrade hpt, or another store",
    )


def _checksum(body):
    return hashlib.sha256(body).hexdigest().encode()


def _finite(x):
    """JSON has neither NaN nor infinity."""
    return x if math.isfinite(x) else None


def _pop_extra(values, cls):
    """Take out what ``cls`` has no field for, and what its nested classes have none for."""
    types = field_types(cls)
    extra = {name: values.pop(name) for name in values.keys() - types.keys()}
    for name, value in values.items():
        kind = _config_class(types[name], value)
        if kind:
            beyond = _pop_extra(value, kind)
            if beyond:
                extra[name] = beyond
    return extra


def _config_class(kind, value):
    """The configuration class of a field's value: of several that it may have, the one with most of its
    keys."""
    if dataclasses.is_dataclass(kind):
        return kind
    classes = filter(dataclasses.is_dataclass, get_args(kind))
    return max(classes, key=lambda c: len(field_types(c).keys() & value.keys()), default=None)


def _put_back(values, extra):
    """The inverse of :func:`_pop_extra`."""
    for name, value in extra.items():
        if name in values:
            _put_back(values[name], value)
        else:
            values[name] = value
