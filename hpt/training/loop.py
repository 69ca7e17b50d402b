"""Training one run: steps are taken, then the validation loss; the result says all of it.

Shapes: R runs that train at once, of U seeds, S steps, K steps between two looks, B sequences of a batch, N
held-out sequences, T tokens of context, V vocabulary.
"""

from __future__ import annotations

import contextlib
import copy
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from hpt.data.batches import Batch, TokenSource, feed, growing
from hpt.data.source import load
from hpt.device import flushed_denormals, pick_device, pick_precision
from hpt.model.transformer import parameter_count
from hpt.runs.diagnostics import look_steps
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig, run_steps
from hpt.training.cuda_graph import CapturedGraph
from hpt.training.diagnostics import look
from hpt.training.optimizers import optimizer_of, step_scalars
from hpt.training.programs import program
from hpt.training.start import build_model, check_start, rate_groups, raw_model
from hpt.training.step import Step, parts
from hpt.training.weights import all_tensors, member_groups, named_weights, with_tensors

#: Steps between looks at the losses, at most: each look waits for the device.
STEPS_PER_CHECK = 25
#: Batches that a run whose steps are compiled validates on at once: without gradients there is room, and
#: operations have to be started less often.
VALIDATION_BATCHES = 4


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
    with contextlib.closing(Training([config], data or load(config.data), pick_device(device))) as run:
        return run.finish()[0]


class Run:
    """What is under way, one run or many at once: the loop over its steps, the losses, validation,
    the records.

    A run whose loss becomes NaN or passes the bound has diverged: it is dropped at the next look.

    Parameters
    ----------
    configs: the runs that train at once, equal but for what may differ in a stack.
    data: the tokens; None for what never reads any.
    device: where it trains.

    Attributes
    ----------
    steps, step: how many steps there are, and how many are taken.
    alive: indices of the runs that have not diverged.
    members: indices of the runs that the steps compute; some may have diverged.
    losses_RxS: of each step, nats a token; NaN where none was taken.
    taken: how many of them are each run's.
    seconds: that each run has trained.
    looks, diagnostics: the steps that are looked into, and what was seen so far, a list a run.
    sequences: how many go through the model at once.
    """

    #: Of ``sequences``, at once in validation.
    validation_batches = 1
    compiled = False

    def __init__(self, configs: Sequence[RunConfig], data: TokenSource | None, device: torch.device):
        self.configs = configs
        self.data = data
        self.device = device
        c = self.config.train
        if data is not None:
            check_start(self.config, data, device)
        self.dtype, self.precision_reason = pick_precision(c.precision, device)
        self.sequences = c.micro_batch_size or c.batch_size
        self.steps = run_steps(self.config)
        self.step = 0
        R = len(configs)
        self.alive = self.members = np.arange(R)
        self.losses_RxS = np.full((R, self.steps), np.nan, np.float32)
        self.taken = np.zeros(R, int)
        self.seconds = np.zeros(R)
        self.looks = look_steps(c, self.steps)
        self.diagnostics = [[] for _ in configs]

    @property
    def config(self) -> RunConfig:
        """The run's, or that of the first."""
        return self.configs[0]

    @property
    def diverged(self) -> bool:
        """Whether no run is left; then no more steps are taken."""
        return not len(self.alive)

    def finish(self) -> list[RunResult]:
        """Take the steps that are left; the records."""
        self.advance(self.steps)
        return self.results()

    @flushed_denormals()
    def advance(self, until: int) -> None:
        """Take the steps up to, not with, step ``until``; none once all have diverged."""
        stretches = [] if self.diverged else growing(self.step, until, STEPS_PER_CHECK)
        coming = feed(self.read, stretches, self.device)
        batches = next(coming, None)
        start = time.perf_counter()
        for steps in stretches:
            losses = [self.watched_step(step, *batch) for step, batch in zip(steps, batches, strict=True)]
            # On their way to a GPU while it computes these.
            batches = next(coming, None)
            losses = self.settle(torch.stack(losses, -1)).cpu().numpy()
            end = time.perf_counter()
            self.note(steps, self.of_alive(np.atleast_2d(losses)), end - start)
            start = end
            if self.diverged:
                break

    def watched_step(self, step: int, *batch: Tensor) -> Tensor:
        """:meth:`take_step`, with a look at what it does to the weights where one is due."""
        return self.take_step(step, *batch)

    def batch(self, seed: int, step: int) -> Batch:
        """Inputs and targets of a step, BxT, on the CPU."""
        c = self.config
        return self.data.batch(seed, step, c.train.batch_size, c.model.context)

    def of_alive(self, values_Rx: np.ndarray) -> np.ndarray:
        """Those of the members that have not diverged."""
        return values_Rx[np.isin(self.members, self.alive)]

    def settle(self, losses) -> Tensor:
        """The final values of these losses, before any decision on them."""
        return losses

    def note(self, steps: range, losses_RxK: np.ndarray, seconds: float) -> None:
        """Keep the losses of these steps, and drop the runs that have diverged in them."""
        alive = self.alive
        self.losses_RxS[alive, steps.start : steps.stop] = losses_RxK
        self.seconds[alive] += seconds / len(alive)
        good_RxK = losses_RxK <= self.config.loss_bound
        good_R = good_RxK.all(1)
        first_bad_R = steps.start + good_RxK.argmin(1)
        self.taken[alive] = np.where(good_R, steps.stop, first_bad_R + 1)
        self.step = steps.stop
        if not good_R.all():
            self.alive = alive[good_R]
            self.keep(good_R)

    def keep(self, good_R: np.ndarray) -> None:
        """Forget the runs that have diverged, where they take time."""

    @flushed_denormals()
    def results(self) -> list[RunResult]:
        """The records, once all steps are taken; takes the validation losses."""
        start = time.perf_counter()
        val_loss_R = np.full(len(self.configs), np.inf)
        seconds_R = self.seconds.copy()
        if not self.diverged:
            val_loss_R[self.alive] = self.of_alive(np.atleast_1d(self.validation_loss().cpu().numpy()))
            seconds_R[self.alive] += (time.perf_counter() - start) / len(self.alive)
        found = zip(val_loss_R.tolist(), seconds_R.tolist(), strict=True)
        return [self.record(i, *measured) for i, measured in enumerate(found)]

    @torch.no_grad()
    def validation_loss(self) -> Tensor:
        """Mean loss on the fixed held-out sequences, nats a token, float64."""
        total = sum(self.held_out_loss(x, y).double() * len(x) for x, y in self.held_out())
        return total / self.config.train.validation_sequences

    def held_out(self) -> list[Batch]:
        """Inputs and targets of the held-out sequences, as many as go through the model at once."""
        c = self.config
        batch = self.data.validation(c.train.validation_sequences, c.model.context)
        inputs_NxT, targets_NxT = (ids_NxT.to(self.device) for ids_NxT in batch)
        return parts(inputs_NxT, targets_NxT, self.validation_batches * self.sequences)

    def record(self, i: int, val_loss: float, seconds: float) -> RunResult:
        """What run ``i`` gave, in so many seconds with its validation."""
        config = self.configs[i]
        train_loss = self.losses_RxS[i, : self.taken[i]]
        tokens = len(train_loss) * config.train.batch_size * config.model.context
        diverged = not val_loss <= config.loss_bound
        return RunResult(
            config=config,
            run_id=config.run_id(self.data.fingerprint),
            val_loss=float("inf") if diverged else val_loss,
            train_loss=train_loss,
            diverged=diverged,
            seconds=seconds,
            tokens_per_second=tokens / float(self.seconds[i]),
            parameters=parameter_count(config.model),
            tokens=tokens,
            device=self.device_name(),
            precision={torch.float32: "fp32", torch.bfloat16: "bf16"}[self.dtype],
            precision_reason=self.precision_reason,
            data_fingerprint=self.data.fingerprint,
            versions={"hpt": version("hpt"), "torch": torch.__version__, "python": platform.python_version()},
            stacked=len(self.configs),
            compiled=self.compiled,
            threads=torch.get_num_threads(),
            diagnostics=self.diagnostics[i],
        )

    def device_name(self) -> str:
        """The device in words: the GPU's name, or the machine's processor type."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type} ({platform.machine()})"


class Training(Run):
    """Runs under way on one device, one or many at once: their weights, and the form that their step
    takes.

    Parameters
    ----------
    configs: equal but for what may differ in a stack.
    data: the tokens; None for what never reads any.
    device: where they train.
    compiled: whether their step is a program, see :mod:`hpt.training.programs`.
    stacked: as in :class:`hpt.training.step.Step`; None where several are.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        data: TokenSource | None,
        device: torch.device,
        compiled: bool = False,
        stacked: bool | None = None,
    ):
        super().__init__(configs, data, device)
        if stacked is None:
            stacked = len(configs) > 1
        starting = [(config.seed, config.parameterization) for config in configs]
        config_of = dict(zip(starting, configs, strict=True))
        starts = {start: build_model(config) for start, config in config_of.items()}
        members = [starts[start] for start in starting]
        c = self.config.train
        kind = optimizer_of(c)
        rates = list(map(rate_groups, members, configs))
        self.groups = member_groups(members, rates, c.eps, kind.moments, device)
        self.scalars = self.step_scalars()
        self.seeds = list(dict.fromkeys(config.seed for config in configs))
        self.row_of_R = self.rows()
        with torch.device("meta"):
            model = raw_model(self.config)
        constants = {name: x.to(device) for name, x in members[0].named_buffers()}
        plain = device.type == "cpu" and not compiled and not stacked
        update = (plain and kind.eager_update) or kind.update
        self.one_step = Step(model, constants, c, self.dtype, self.sequences, update, stacked)
        self.compiled = compiled
        self.validation_batches = VALIDATION_BATCHES if compiled else 1
        self.program = (
            program(self.config, self.one_step, self.groups, self.first_inputs()) if compiled else None
        )
        self.graph = CapturedGraph(device)

    def step_scalars(self) -> Tensor:
        """What all members share at each step, SxGx5."""
        roles = [group.role for group in self.groups]
        m = self.config.parameterization.multiplier(self.config.model.width)
        return step_scalars(self.config.train, roles, self.steps, m).to(self.device)

    def first_inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a step takes beside the weights, of tokens that are all 0."""
        c = self.config
        shape = (len(self.configs), c.train.batch_size, c.model.context)
        ids_RxBxT = torch.zeros(shape, dtype=torch.int64, device=self.device)
        return ids_RxBxT, ids_RxBxT.clone(), self.scalars[0]

    def rows(self) -> Tensor:
        """Which seed's batch each member sees, (R,)."""
        rows = [self.seeds.index(self.configs[i].seed) for i in self.members]
        return torch.tensor(rows, device=self.device)

    def read(self, step: int) -> Batch:
        """Inputs and targets of each seed, UxBxT, on the CPU."""
        sides = zip(*(self.batch(seed, step) for seed in self.seeds), strict=True)
        return tuple(map(torch.stack, sides))

    def take_step(self, step, inputs_UxBxT, targets_UxBxT) -> Tensor:
        """One step of all members; their losses before it, (R,)."""
        losses_R = self.graph.run(self.form, inputs_UxBxT, targets_UxBxT, self.scalars[step])
        # A captured step writes its losses into the same memory each time.
        return losses_R.clone()

    def watched_step(self, step, inputs_UxBxT, targets_UxBxT) -> Tensor:
        """:meth:`take_step`, with a look at what it does to the weights where one is due."""
        if step not in self.looks:
            return self.take_step(step, inputs_UxBxT, targets_UxBxT)
        weights = named_weights(self.groups)
        before = {name: weight.clone() for name, weight in weights.items()}
        losses_R = self.take_step(step, inputs_UxBxT, targets_UxBxT)
        after = named_weights(self.groups)
        roles = {name: group.role for group in self.groups for name in group.shapes}
        model = self.one_step.model
        constants = self.one_step.constants
        inputs_RxBxT = inputs_UxBxT[self.row_of_R]
        seen = look(model, roles, constants, before, after, inputs_RxBxT, self.dtype)
        for i, rows in zip(self.members, seen, strict=True):
            if i in self.alive:
                self.diagnostics[i] += [{"step": step} | row for row in rows]
        return losses_R

    def form(self, inputs_UxBxT, targets_UxBxT, scalars: Tensor) -> Tensor:
        """The step on these batches, as a program where there is one."""
        own = inputs_UxBxT[self.row_of_R], targets_UxBxT[self.row_of_R]
        return (self.program or self.one_step)(self.groups, *own, scalars)

    def held_out_loss(self, inputs_BxT, targets_BxT) -> Tensor:
        """Each member's mean loss on the same sequences, (R,)."""
        return self.one_step.held_out_losses(self.groups, inputs_BxT, targets_BxT)

    def keep(self, good_R: np.ndarray) -> None:
        """Go on with these members alone; a program's number of members is fixed."""
        if self.program is None:
            self.members = self.alive
            self.row_of_R = self.rows()
            rows = torch.from_numpy(good_R).to(self.device)
            kept = [x[rows] for x in all_tensors(self.groups)]
            self.groups = with_tensors(self.groups, kept)
            self.graph.release()

    def branch(self, config: RunConfig) -> Training:
        """The same run after the steps taken, to go on with the budget of another configuration;
        from here on each goes its own way."""
        twin = copy.copy(self)
        twin.configs = [config]
        twin.steps = run_steps(config)
        twin.scalars = twin.step_scalars()
        clones = [x.clone() for x in all_tensors(self.groups)]
        twin.groups = with_tensors(self.groups, clones)
        twin.graph = CapturedGraph(self.device)
        twin.losses_RxS = self.losses_RxS.copy()
        twin.taken = self.taken.copy()
        twin.seconds = self.seconds.copy()
        return twin

    def close(self) -> None:
        """Free the captured step, whatever goes on holding the run."""
        self.graph.release()
