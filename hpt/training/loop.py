"""Training one run."""

from __future__ import annotations

import copy
import platform
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpt.data.batches import TokenSource, feed
from hpt.data.source import load
from hpt.device import flushed_denormals, pick_device, pick_precision
from hpt.model.transformer import Transformer, parameter_count
from hpt.parameterization.groups import init_weights, param_groups
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.runs.train_config import lr_factor

#: Steps between looks at the losses: each look waits for the device.
STEPS_PER_CHECK = 25


def train(config: RunConfig, *, data: TokenSource | None = None, device: str = "auto") -> RunResult:
    """Train one model and take its validation loss.

    Parameters
    ----------
    config: what to train.
    data: the tokens, where they are loaded already; else ``hpt.data.source.load(config.data)``.
    device: "auto", "cpu", "cuda", "mps".

    Returns
    -------
    A :class:`RunResult`. A run that diverges is a result too: loss inf, ``diverged`` True. The same
    configuration on the same machine with as many threads gives the same bits.
    """
    run = Training(config, data or load(config.data), device)
    run.advance(run.steps)
    return run.result()


class Training:
    """One run under way: model, optimizer, and the losses of the steps taken.

    Parameters
    ----------
    config, device: as in :func:`train`.
    data: the tokens.

    Attributes
    ----------
    steps: how many the whole run has.
    step: how many are taken.
    diverged: whether the loss became NaN or passed the bound; then no more are taken.
    """

    def __init__(self, config: RunConfig, data: TokenSource, device: str = "auto"):
        self.config, self.data, self.place = config, data, pick_device(device)
        self.dtype, self.precision_reason = pick_precision(config.train.precision, self.place)
        self.model = self.placed(build_model(config))
        c, self.parameters = config.train, parameter_count(config.model)
        self.steps = c.step_count(self.parameters, config.model.context)
        self.step, self.diverged, self.seconds = 0, False, 0.0
        groups = param_groups(
            self.model, config.parameterization, lr=c.lr, weight_decay=c.weight_decay, decay=c.decay
        )
        self.optimizer = torch.optim.AdamW(
            groups, betas=(c.beta1, c.beta2), eps=c.eps, fused=self.place.type != "mps"
        )
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.bound = config.loss_bound
        self.losses = torch.full((self.steps,), float("nan"), device=self.place)

    @flushed_denormals()
    def advance(self, until: int) -> None:
        """Take the steps up to, not with, step ``until``."""
        c, start, checked = self.config.train, time.perf_counter(), self.step
        steps = range(self.step, until if not self.diverged else self.step)
        for step, (inputs_BxT, targets_BxT) in zip(
            steps, feed(self.read, steps, self.place), strict=True
        ):
            factor = lr_factor(c, step, self.steps)
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * factor
            self.optimizer.zero_grad(set_to_none=True)
            self.losses[step] = self.gradients(inputs_BxT, targets_BxT)
            if c.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), c.clip)
            self.optimizer.step()
            if (step + 1) % STEPS_PER_CHECK == 0 or step + 1 == until:
                self.settle(checked, step + 1)
                bad = (~(self.losses[checked : step + 1] <= self.bound)).nonzero()
                checked = checked + int(bad[0]) + 1 if len(bad) else step + 1
                self.step, self.diverged = checked, bool(len(bad))
                if self.diverged:
                    break
        self.seconds += time.perf_counter() - start

    def placed(self, model: Transformer) -> nn.Module:
        """The new model, on the CPU, where it is to train."""
        return model.to(self.place)

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, BxT, on the CPU."""
        return self.data.batch(
            self.config.seed, step, self.config.train.batch_size, self.config.model.context
        )

    def gradients(self, inputs_BxT: Tensor, targets_BxT: Tensor) -> Tensor:
        """Add the gradients of a batch's mean loss; returns that loss."""
        return backward(
            self.model, inputs_BxT, targets_BxT, self.dtype, self.config.train.micro_batch_size
        )

    def settle(self, first: int, end: int) -> None:
        """Bring the losses of these steps to their final values, before any decision on them."""

    def validation_loss(self) -> float:
        return validation_loss(self.model, self.data, self.config, self.dtype)

    def snapshot(self) -> dict[str, Any]:
        """A copy of the state after the steps taken; later steps leave it as it is."""
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "losses": self.losses[: self.step],
                "step": self.step,
                "diverged": self.diverged,
                "seconds": self.seconds,
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`snapshot`, also that of another run of the same model; it can be used
        again."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(
            copy.deepcopy(state["optimizer"])
        )  # torch would share its tensors
        self.step, self.diverged, self.seconds = state["step"], state["diverged"], state["seconds"]
        self.losses = torch.full_like(self.losses, float("nan"))  # results hold on to the old ones
        self.losses[: self.step] = state["losses"]

    @flushed_denormals()
    def result(self) -> RunResult:
        """The record of the run, once all steps are taken; takes the validation loss."""
        start = time.perf_counter()
        val_loss = float("inf") if self.diverged else self.validation_loss()
        return record(
            self,
            self.config,
            self.losses[: self.step].float().cpu().numpy(),
            val_loss,
            self.seconds,
            time.perf_counter() - start,
        )


def record(
    run,
    config: RunConfig,
    train_loss: np.ndarray,
    val_loss: float,
    training_seconds: float,
    validation_seconds: float,
    stacked: int = 1,
) -> RunResult:
    """What a :class:`Training`, or one of the ``stacked`` members of a
    :class:`hpt.training.stacked.Stack`, gave."""
    tokens = len(train_loss) * config.train.batch_size * config.model.context
    diverged = not val_loss <= run.bound
    return RunResult(
        config=config,
        run_id=config.run_id(run.data.fingerprint),
        val_loss=float("inf") if diverged else val_loss,
        train_loss=train_loss,
        diverged=diverged,
        seconds=training_seconds + validation_seconds,
        tokens_per_second=tokens / training_seconds,
        parameters=run.parameters,
        tokens=tokens,
        device=device_name(run.place),
        precision={torch.float32: "fp32", torch.bfloat16: "bf16"}[run.dtype],
        precision_reason=run.precision_reason,
        data_fingerprint=run.data.fingerprint,
        versions={
            "hpt": version("hpt"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        stacked=stacked,
        threads=torch.get_num_threads(),
    )


def build_model(config: RunConfig) -> Transformer:
    """The run's model on the CPU, with its initial weights; they depend on the seed, not on the
    device."""
    p, c = config.parameterization, config.model
    # A tied readout starts at the embedding's std 1; the factor gives its logits the untied size.
    tied = p.scales("readout", c.width, p.multiplier(c.width)).init_std if c.tie_readout else 1.0
    model = Transformer(c, attention_scale=p.attention_scale(c.d_head), readout_multiplier=tied)
    init_weights(model, p, generator=torch.Generator().manual_seed(config.seed))
    return model


def backward(
    model: Transformer,
    inputs_BxT: Tensor,
    targets_BxT: Tensor,
    dtype: torch.dtype,
    micro_batch_size: int | None,
) -> Tensor:
    """Add the gradients of the batch's mean loss, a micro-batch at a time; returns that loss, nats
    a token."""
    B = len(inputs_BxT)
    total = torch.zeros((), device=inputs_BxT.device)
    for x, y in zip(
        inputs_BxT.split(micro_batch_size or B),
        targets_BxT.split(micro_batch_size or B),
        strict=True,
    ):
        loss = model(x, y, dtype) * (len(x) / B)
        loss.backward()
        total += loss.detach()
    return total


@torch.no_grad()
def validation_loss(
    model: Transformer, data: TokenSource, config: RunConfig, dtype: torch.dtype
) -> float:
    """Mean loss on the fixed held-out sequences, nats a token."""
    inputs_NxT, targets_NxT = data.validation(
        config.train.validation_sequences, config.model.context
    )
    place = next(model.parameters()).device
    size = config.train.micro_batch_size or config.train.batch_size
    chunks = zip(inputs_NxT.split(size), targets_NxT.split(size), strict=True)
    total = sum(model(x.to(place), y.to(place), dtype).double() * len(x) for x, y in chunks)
    return float(total) / len(inputs_NxT)


def device_name(place: torch.device) -> str:
    """The device in words: the GPU's name, or the machine's processor type."""
    return (
        torch.cuda.get_device_name(place)
        if place.type == "cuda"
        else f"{place.type} ({platform.machine()})"
    )
