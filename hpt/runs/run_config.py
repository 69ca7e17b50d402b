"""One run: its configuration, its identity, its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field, field_validator, model_validator

from hpt.config import config, from_dict, to_dict
from hpt.data.source import DataConfig
from hpt.model.transformer import ModelConfig
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.train_config import TrainConfig

#: Part of a run's identity: raised when the same configuration would give another result.
RESULTS_VERSION = 2


@config
class RunConfig:
    """Everything that decides the result of one run.

    Attributes
    ----------
    model, data, train: see their classes.
    parameterization: a :class:`Parameterization`, or its name.
    seed: of the weights and of the order of batches.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig
    parameterization: Parameterization = Parameterization()
    seed: int = Field(0, ge=0)

    @field_validator("parameterization", mode="before")
    @classmethod
    def _parse(cls, value):
        return Parameterization.parse(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _vocabularies_agree(self):
        if self.model.vocab_size != self.data.vocab_size:
            raise ValueError(f"model.vocab_size {self.model.vocab_size} differs from data.vocab_size "
                             f"{self.data.vocab_size}; give both the same")
        return self

    @property
    def loss_bound(self) -> float:
        """The training loss, nats a token, beyond which the run has diverged."""
        return self.train.loss_bound or 3 * float(np.log(self.model.vocab_size))

    def to_dict(self) -> dict:
        return to_dict(self)

    @classmethod
    def from_dict(cls, values: dict) -> RunConfig:
        """The inverse of :meth:`to_dict`.  Raises ConfigError for unknown keys or bad values."""
        return from_dict(cls, values)

    def run_id(self, data_fingerprint: str) -> str:
        """Content hash of the configuration and the tokens; 20 hexadecimal digits.

        A precision of "auto" enters as such: the record says what it came to.
        """
        content = {"config": self.to_dict(), "data": data_fingerprint, "version": RESULTS_VERSION}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:20]


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
    stacked: how many runs were trained at once, this one included: such runs equal those trained alone to rounding.
    compiled: whether its step was one compiled program (:mod:`hpt.training.compiled`): equal to rounding too.
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
            "parameterization": str(c.parameterization), "base_width": c.parameterization.base_width,
            "width": c.model.width, "lr": c.train.lr, "log2_lr": float(np.log2(c.train.lr)),
            "weight_decay": c.train.weight_decay, "seed": c.seed, "loss": self.val_loss,
            "diverged": self.diverged, "steps": len(self.train_loss), "tokens": self.tokens,
            "parameters": self.parameters, "seconds": self.seconds, "tokens_per_second": self.tokens_per_second,
            "device": self.device, "precision": self.precision, "run_id": self.run_id,
        }
