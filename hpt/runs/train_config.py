"""How a run is trained: budget, AdamW, and the learning rate over time."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from hpt.config import config
from hpt.device import Precision
from hpt.parameterization.rules import Decay, DecayOn, Role


@config
class TrainConfig:
    """Optimizer, schedule and budget of one run.

    Attributes
    ----------
    lr: hidden learning rate η at the model's width (the peak of the schedule).
    optimizer: "adamw" (Loshchilov & Hutter 2019); "muon" for the hidden matrices with AdamW beside, or
        "muon-match-rms", two scales of its step (:mod:`hpt.training.muon`); "lion"; or "sgd". Which
        rules have rates for which, :mod:`hpt.parameterization.optimizers` says.
    rest_lr_ratio: with Muon, AdamW's learning rate over ``lr``.
    steps: optimizer steps; or leave it None and give ``tokens_per_parameter``.
    tokens_per_parameter: budget as training tokens over all trainable parameters.
    batch_size: sequences a step.
    micro_batch_size: sequences that go through the model at once; gradients add up to the whole
        batch's. None is the whole batch: less memory changes the rounding alone.
    schedule: "wsd" is warm-up, stable, polynomial decay (Kalra & Barkeshli 2026); or cosine, or
        linear decay after the warm-up (Lingle 2024).
    warmup_steps: steps of linear warm-up.
    decay_fraction: share of the steps that "wsd" decays over.
    decay_power: power of the polynomial decay.
    final_lr: learning rate at the end, as a share of the peak.
    exponential_warmup, exponential_warmup_on: T_w steps over which the learning rates of these roles
        are multiplied by m^(t/T_w − 1), from 1/m to 1, beside the schedule; 0 is none. μP with hidden
        (η/m, λ·m) acts like that (Kosson et al. 2510.19093).
    embedding_boost, boost_share: embeddings train at m times what the parameterization says: "early",
        in the first ``boost_share`` of the steps alone; "late", in the last; or "fading", by a
        factor that falls from m to 1 over the first, its logarithm linearly.
    weight_decay, decay, decay_on: λ, how it acts and on what, see :func:`hpt.param_groups`.
    dose: the weight decay as time constants of the run, ηλ·steps at the peak η; λ follows from it,
        see :func:`hpt.runs.run_decay`. Where weights forget over τ steps (Wang & Aitchison 2405.13698: τ =
        1/(ηλ)), the dose is steps/τ.
    beta1, beta2, eps: AdamW's; the first two are Lion's too (its authors take 0.9 and 0.99).
    momentum: Muon's and SGD's; None is 0.95 for Muon, 0.9 for SGD.
    clip: largest gradient norm; None does not clip.
    loss_bound: a run whose training loss passes it has diverged; None is 3·ln(vocabulary), three
        times the loss of guessing.
    diagnostics: how many looks a run gets into its weights, see :mod:`hpt.runs.diagnostics`; they
        change nothing in it, and six cost 0.3 to 0.7 % of 300 plain steps.
    validation_sequences: how many fixed held-out sequences the final loss is taken on.
    precision: "fp32", "bf16", or "auto" for what the device does fast.
    """

    lr: float = Field(2.0**-8, gt=0)
    optimizer: Literal["adamw", "muon", "muon-match-rms", "lion", "sgd"] = "adamw"
    rest_lr_ratio: float = Field(1.0, gt=0)
    steps: int | None = Field(None, ge=1, le=10**12)
    tokens_per_parameter: float | None = Field(None, gt=0, le=1e12)
    batch_size: int = Field(16, ge=1, le=2**40)
    micro_batch_size: int | None = Field(None, ge=1, le=2**40)
    schedule: Literal["wsd", "cosine", "linear"] = "wsd"
    warmup_steps: int = Field(8, ge=0)
    decay_fraction: float = Field(0.2, ge=0, le=1)
    decay_power: float = Field(1.0, gt=0)
    final_lr: float = Field(0.0, ge=0, le=1)
    exponential_warmup: int = Field(0, ge=0)
    exponential_warmup_on: tuple[Role, ...] = ("hidden", "readout")
    embedding_boost: Literal["none", "early", "late", "fading"] = "none"
    boost_share: float = Field(0.1, gt=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    decay: Decay = "coupled"
    decay_on: DecayOn = "matrices"
    dose: float | None = Field(None, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    momentum: float | None = Field(None, ge=0, lt=1)
    clip: float | None = Field(None, gt=0)
    loss_bound: float | None = Field(None, gt=0)
    validation_sequences: int = Field(256, ge=1, le=2**40)
    precision: Precision = "auto"
    diagnostics: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_budget(self):
        if (self.steps is None) == (self.tokens_per_parameter is None):
            raise ValueError(
                f"give either steps or tokens_per_parameter, "
                f"given steps={self.steps}, tokens_per_parameter={self.tokens_per_parameter}"
            )
        for name in ("warmup_steps", "exponential_warmup"):
            if self.steps is not None and getattr(self, name) > self.steps:
                raise ValueError(f"{name}={getattr(self, name)} exceeds steps={self.steps}")
        return self

    @model_validator(mode="after")
    def _one_decay(self):
        if self.dose is not None and self.weight_decay > 0:
            raise ValueError(
                f"give either weight_decay or dose, given weight_decay={self.weight_decay}, dose={self.dose}"
            )
        return self

    def step_count(self, parameters: int, context: int) -> int:
        """Optimizer steps of the budget, for a model of that many parameters."""
        if self.steps is not None:
            return self.steps
        tokens = self.tokens_per_parameter * parameters
        return max(1, round(tokens / (self.batch_size * context)))

    @property
    def shrink_per_decay(self) -> float:
        """What a step shrinks a weight by, over λ, at the peak of the schedule: η, or 1 where the
        decay is independent of it."""
        return 1.0 if self.decay == "independent" else self.lr


def lr_factor(c: TrainConfig, step: int, steps: int) -> float:
    """The learning rate at ``step`` (from 0) as a share of the peak, at the middle of the step.

    Warm-up rises linearly and reaches 1 at its end; decay falls from 1 to ``final_lr`` at
    ``steps``.
    """
    t = step + 0.5
    if t < c.warmup_steps:
        return t / c.warmup_steps
    decay_steps = c.decay_fraction * steps if c.schedule == "wsd" else steps - c.warmup_steps
    decay_start = max(steps - decay_steps, c.warmup_steps)
    if t <= decay_start:
        return 1.0
    left = (steps - t) / (steps - decay_start)
    shape = {"wsd": left**c.decay_power, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[
        c.schedule
    ]
    return c.final_lr + (1 - c.final_lr) * shape


def role_factor(c: TrainConfig, role: Role, step: int, steps: int, m: float) -> float:
    """What the learning rate of a role is multiplied by at ``step``, beside :func:`lr_factor`.

    Parameters
    ----------
    m: the run's width over its base width.
    """
    t = step + 0.5
    power = 0.0
    if c.exponential_warmup and role in c.exponential_warmup_on:
        power += min(0.0, t / c.exponential_warmup - 1)
    if role == "embedding":
        boosted_steps = c.boost_share * steps
        power += {
            "none": 0.0,
            "early": float(t < boosted_steps),
            "late": float(t > steps - boosted_steps),
            "fading": max(0.0, 1 - t / boosted_steps),
        }[c.embedding_boost]
    return m**power
