"""What one run gave, and the record that is kept of it.

A record is two lines: the SHA-256 of the second, and a JSON object of the fields of
:class:`RunResult` and of ``format``, the number of this layout. A field that is added later is
missing in older records and takes its default; one that a newer hpt wrote is kept aside and written
again, so a new field needs no new format.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from hpt.config import field_types, from_dict
from hpt.errors import ConfigError, StoreError
from hpt.runs.run_config import OLDEST_VERSION, RESULTS_VERSION, RunConfig, merged, run_decay, run_dose

#: Raised when an older hpt would misread the records. Those of format 1 do not name it.
FORMAT = 2
#: The losses of a record, where there are some; the quotes of a text are escaped.
CURVE = re.compile(rb'"train_loss": \[([-+.0-9eEnul, ]+)\]')
#: Of unknown fields of a configuration, so many are tried for those that enter its hash.
MOST_LATER = 8


def _refuse(constant):
    raise ValueError(f"it holds {constant}")


#: What would be computed with NaN is refused.
JSON = json.JSONDecoder(parse_constant=_refuse)


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
    values.setdefault("results_version", RESULTS_VERSION)
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
    return _decoded(_unsealed(record), run_id, where)


def _unsealed(record):
    checksum, _, body = record.partition(b"\n")
    body = body.removesuffix(b"\n")
    if _checksum(body) != checksum:
        raise ValueError("its checksum does not match its content")
    return body


def _decoded(body, run_id, where):
    values = JSON.decode(body.decode())
    if values["run_id"] != run_id:
        raise ValueError(f"it holds run {values['run_id']}")
    record_format, version = values.pop("format", 1), values.pop("results_version", RESULTS_VERSION)
    if record_format > FORMAT or version > RESULTS_VERSION:
        says = f"format {record_format} and results version {version}"
        raise _newer(where, f"has {says}; this hpt reads up to {FORMAT} and {RESULTS_VERSION}")
    extra = _pop_extra(values, RunResult)
    if version != RESULTS_VERSION:
        extra["results_version"] = version
    try:
        values["config"] = from_dict(RunConfig, values["config"])
    except ConfigError as error:
        raise _newer(where, f"has a configuration that this hpt refuses: {error.what}") from error
    _check_types(values)
    later = _leaves(extra.get("config", {}))
    if len(later) > MOST_LATER:
        raise _newer(where, f"has {len(later)} fields of its configuration that this hpt does not know")
    if not _is_of(run_id, values["config"], values["data_fingerprint"], later):
        raise ValueError("its configuration is that of another run")
    if values["val_loss"] is None:
        values["val_loss"] = math.inf
    values["train_loss"] = _curve(values["train_loss"])
    return RunResult(**values, extra=extra)


def _check_types(values):
    """Raise ValueError unless each plain value has its field's type, and is finite."""
    for name, kind in field_types(RunResult).items():
        value = values.get(name, 0 if kind in (int, float) else kind() if kind in (str, bool) else None)
        if name == "val_loss" and value is None and values["diverged"]:
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if kind in (bool, int, float, str) and type(value) is not kind:
            raise ValueError(f"its {name} is {value!r}")
        if kind is float and not math.isfinite(value):
            raise ValueError(f"its {name} is {value!r}")


def _curve(losses):
    """A record's losses as an array, float32 (steps,); None is NaN."""
    curve = np.array([math.nan if x is None else x for x in losses])
    too_large = np.abs(curve) > np.finfo(np.float32).max if curve.dtype.kind in "fi" else True
    if curve.ndim != 1 or np.any(too_large):
        raise ValueError("its train_loss is no list of numbers")
    return curve.astype(np.float32)


def _is_of(run_id, config, data_fingerprint, later):
    """Whether a configuration has this id, by a version of the results that this hpt knows; of the fields
    ``later`` that only a newer hpt has, nobody here knows which differ from their default."""
    for version in range(RESULTS_VERSION, OLDEST_VERSION - 1, -1):
        for count in range(len(later) + 1):
            for some in itertools.combinations(later, count):
                differing = functools.reduce(merged, some, {})
                if config.run_id(data_fingerprint, version=version, later=differing) == run_id:
                    return True
    return False


def _leaves(values):
    """The fields of a nested dictionary, each as one of a field alone."""
    found = []
    for name, value in values.items():
        known = name in ("model", "data", "train", "parameterization") and isinstance(value, dict)
        found += [{name: leaf} for leaf in _leaves(value)] if known else [{name: value}]
    return found


def decode_row(record: bytes, run_id: str, where: object) -> dict[str, Any]:
    """The row of a record's result, as :func:`decode` gives it; most of a record is its loss curve, which is
    counted here and not read."""
    body = _unsealed(record)
    curves = list(CURVE.finditer(body))
    if len(curves) != 1:
        return _decoded(body, run_id, where).row()
    start, end = curves[0].span(1)
    row = _decoded(body[:start] + body[end:], run_id, where).row()
    return row | {"steps": body.count(b",", start, end) + 1}


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
    extra = {name: values.pop(name) for name in values.keys() - field_types(cls).keys()}
    for name, classes in _config_classes(cls).items():
        if name in values:
            kind = classes[0]
            if len(classes) > 1:
                # Of several classes that it may have, the one with most of its keys.
                kind = max(classes, key=lambda c: len(field_types(c).keys() & values[name].keys()))
            beyond = _pop_extra(values[name], kind)
            if beyond:
                extra[name] = beyond
    return extra


@functools.cache
def _config_classes(cls):
    """The fields that hold a configuration, with the classes that it may have."""
    found = {}
    for name, kind in field_types(cls).items():
        found[name] = tuple(filter(dataclasses.is_dataclass, (kind, *get_args(kind))))
    return {name: classes for name, classes in found.items() if classes}


def _put_back(values, extra):
    """The inverse of :func:`_pop_extra`."""
    for name, value in extra.items():
        if name in values:
            _put_back(values[name], value)
        else:
            values[name] = value
