"""One run: its configuration, its identity, and how much there is to compute."""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from hpt.config import config, from_dict, to_dict
from hpt.data.source import DataConfig
from hpt.errors import ConfigError
from hpt.files import StrPath
from hpt.model.transformer import ModelConfig, flops_per_token, parameter_count
from hpt.parameterization.named_rules import trained_by
from hpt.parameterization.rules import Rule
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.train_config import TrainConfig

#: Part of a run's identity: raised when the same configuration would give another result.
RESULTS_VERSION = 2
#: The first that has a file of its fields.
OLDEST_VERSION = 2
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def parse_parameterization(value: Any) -> Any:
    """What a run is trained by, of a name, of a dictionary or as it is.  Raises ConfigError for an
    unknown name, and for a rule that bears the name of another."""
    if isinstance(value, dict):
        value = from_dict(Rule if "name" in value else Parameterization, value)
    return trained_by(value) if isinstance(value, str | Parameterization | Rule) else value


@config
class RunConfig:
    """Everything that decides the result of one run.

    Attributes
    ----------
    model, data, train: see their classes.
    parameterization: a :class:`Parameterization`, any other rule of :func:`hpt.rule`, or its name.
    seed: of the weights and of the order of batches.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig
    parameterization: Parameterization | Rule = Parameterization()
    seed: int = Field(0, ge=0, lt=2**64)

    @field_validator("parameterization", mode="before")
    @classmethod
    def _parse(cls, value):
        return parse_parameterization(value)

    @model_validator(mode="after")
    def _vocabularies_agree(self):
        if self.model.vocab_size != self.data.vocab_size:
            raise ValueError(
                f"model.vocab_size {self.model.vocab_size} differs from data.vocab_size "
                f"{self.data.vocab_size}; give both the same"
            )
        return self

    @property
    def loss_bound(self) -> float:
        """The training loss, nats a token, beyond which the run has diverged."""
        return self.train.loss_bound or 3 * float(np.log(self.model.vocab_size))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a dictionary of JSON types."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The inverse of :meth:`to_dict`.  Raises ConfigError for unknown keys or bad values."""
        return from_dict(cls, values)

    def run_id(
        self, data_fingerprint: str, *, version: int = RESULTS_VERSION, later: Mapping[str, Any] | None = None
    ) -> str:
        """Content hash of the configuration and the tokens; 20 hexadecimal digits.

        A precision of "auto" enters as such: the record says what it came to. A field that is newer
        than the results version enters only where it differs from its default.

        Parameters
        ----------
        data_fingerprint: of the tokens.
        version: of the results.
        later: fields that a newer hpt has, with values that differ from their defaults.
        """
        changed = merged(to_dict(self, changed_only=True), later or {})
        config = merged(_frozen_fields(version), changed)
        text = CANONICAL.encode({"config": config, "data": data_fingerprint, "version": version})
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def _frozen_fields(version):
    """The fields that a configuration had when the results version was raised to this, with defaults: those
    of today, so that what is left out of a configuration as its default enters as the same."""
    file = resources.files("hpt.runs") / f"results_version_{version}.json"
    return read_values(file, "a run's fields")


def merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both of two nested dictionaries; where they differ, the second."""
    both = {**values, **more}
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            both[name] = merged(values[name], value)
    return both


def run_steps(run: RunConfig) -> int:
    """Optimizer steps of a run."""
    return run.train.step_count(parameter_count(run.model), run.model.context)


def run_decay(run: RunConfig) -> float:
    """The weight decay λ of a run: as given, or what its dose comes to, dose/(η·steps)."""
    c = run.train
    return c.weight_decay if c.dose is None else c.dose / (c.shrink_per_decay * run_steps(run))


def run_dose(run: RunConfig) -> float:
    """The time constants of weight decay in a run: ηλ·steps at the peak η, and λ·steps where the
    decay is independent of it."""
    c = run.train
    return c.weight_decay * c.shrink_per_decay * run_steps(run) if c.dose is None else c.dose


def run_flops(run: RunConfig) -> float:
    """Training FLOPs of a run: 6 per matmul weight and token, and those of attention."""
    return flops_per_token(run.model) * run_steps(run) * run.train.batch_size * run.model.context


def load_run(file: StrPath) -> RunConfig:
    """One run's configuration from a TOML file, or a JSON file as ``RunConfig.to_dict()`` gives it.

    Raises
    ------
    ConfigError: for a file that cannot be read, an unknown key or a bad value.
    """
    return RunConfig.from_dict(read_values(Path(file), "a run"))


def read_values(file: Traversable, holds: str) -> dict[str, Any]:
    """The content of a JSON file, or of a TOML file; ``holds`` says in an error what it should be.

    Raises
    ------
    ConfigError: for a file that cannot be read.
    """
    parse = json.loads if file.name.endswith(".json") else tomllib.loads
    try:
        values = parse(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not names and values")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"cannot read {holds} from {str(file)!r}: {error}.",
            "another file or format, or another encoding than UTF-8",
            "a TOML file as hpt/study/profiles.toml, saved as UTF-8",
        ) from error
    return values
