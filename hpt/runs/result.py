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
import marshal
import math
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from pydantic_core import from_json

from hpt.config import field_types, from_dict
from hpt.errors import ConfigError, StoreError
from hpt.runs.run_config import OLDEST_VERSION, RESULTS_VERSION, RunConfig, merged, run_decay, run_dose

#: Raised when an older hpt would misread the records. Those of format 1 do not name it.
FORMAT = 2
#: Before the losses of a record; the quotes of a text are escaped.
CURVE = b'"train_loss": ['
#: Of unknown fields of a configuration, so many are tried for those that enter its hash.
MOST_LATER = 8


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


#: Fields of one value, with its type.
PLAIN = {name: kind for name, kind in field_types(RunResult).items() if kind in (bool, int, float, str)}


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
    values = _parsed(body)
    if values["run_id"] != run_id:
        raise ValueError(f"it holds run {values['run_id']}")
    record_format, version = values.pop("format", 1), values.pop("results_version", RESULTS_VERSION)
    if record_format > FORMAT or version > RESULTS_VERSION:
        says = f"format {record_format} and results version {version}"
        raise _newer(where, f"has {says}; this hpt reads up to {FORMAT} and {RESULTS_VERSION}")
    try:
        extra = _take_in(values, RunResult)
    except ConfigError as error:
        raise _newer(where, f"has a configuration that this hpt refuses: {error.what}") from error
    if version != RESULTS_VERSION:
        extra["results_version"] = version
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


def _parsed(body):
    """What JSON says; ValueError for NaN and infinity, with which one would go on computing."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        # It takes no half of a character, which names of files may have; int takes no constant.
        return json.loads(body, parse_constant=int)


def _check_types(values):
    """Raise ValueError unless each plain value has its field's type, and is finite."""
    for name in PLAIN.keys() & values.keys():
        kind, value = PLAIN[name], values[name]
        if name == "val_loss" and value is None and values["diverged"]:
            continue
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or not (kind is str or math.isfinite(value)):
            raise ValueError(f"its {name} is {value!r}")


def _curve(losses):
    """A record's losses as an array, float32 (steps,); None is NaN."""
    curve = np.array([math.nan if x is None else x for x in losses])
    if curve.ndim != 1 or curve.dtype.kind not in "fi" or (abs(curve) > np.finfo(np.float32).max).any():
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
    before, _, rest = body.partition(CURVE)
    curve, _, after = rest.partition(b"]")
    if not curve or curve.translate(None, b"-+.0123456789eEnul, ") or CURVE in after:
        return _decoded(body, run_id, where).row()
    row = _decoded(before + CURVE + b"]" + after, run_id, where).row()
    return row | {"steps": curve.count(b",") + 1}


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


def _take_in(values, cls):
    """Build the configurations among values of a ``cls``; take out what it and they have no field for."""
    extra = {name: values.pop(name) for name in values.keys() - field_types(cls).keys()}
    for name, classes in _config_classes(cls).items():
        if name in values:
            if _config_classes(classes[0]):
                values[name], beyond = _built(classes, values[name])
            else:
                values[name], beyond = _known(classes, marshal.dumps(values[name], 2))
            if beyond:
                extra[name] = beyond
    return extra


def _built(classes, values):
    """A configuration and what it had no field for, of the class of these that has most of its keys."""
    cls = max(classes, key=lambda c: len(field_types(c).keys() & values.keys()))
    extra = _take_in(values, cls)
    return from_dict(cls, values), extra


@functools.lru_cache(1 << 12)
def _known(classes, packed):
    """As :func:`_built`, of what many records share."""
    return _built(classes, marshal.loads(packed))


@functools.cache
def _config_classes(cls):
    """The fields that hold a configuration, with the classes that it may have."""
    found = {}
    for name, kind in field_types(cls).items():
        found[name] = tuple(filter(dataclasses.is_dataclass, (kind, *get_args(kind))))
    return {name: classes for name, classes in found.items() if classes}


def _put_back(values, extra):
    """Put back what :func:`_take_in` took out."""
    for name, value in extra.items():
        if name in values:
            _put_back(values[name], value)
        else:
            values[name] = value
