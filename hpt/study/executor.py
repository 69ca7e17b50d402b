"""What executors have in common: each trains the runs of a study into a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpt.device import pick_device
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.runs.store import Store
from hpt.study.jobs import Job, is_stacked, plan_jobs
from hpt.study.timing import Calibration
from hpt.training.stacked import stack_key


@dataclass(eq=False)
class Executor:
    """Trains runs into a store, in a ``with`` block, once it is prepared; this one trains nothing.

    Parameters
    ----------
    store: where results go; None where no run is to be trained.
    asked: how many jobs at a time; None decides.
    device: "auto", "cpu", "cuda", "mps".
    stack, compile: as ``stack`` and ``compiled`` of :meth:`hpt.Study.run`.
    address, gpus_per_job: of a cluster.

    Attributes
    ----------
    workers: how many jobs are done at a time.
    compiled: shapes whose steps are compiled.
    why: why so many workers, and how they train, in words.
    """

    store: Store | None
    asked: int | None = None
    device: str = "auto"
    stack: bool | None = None
    compile: bool | None = None
    address: str | None = None
    gpus_per_job: float | None = None

    workers = 1
    compiled = frozenset()
    why = "nothing to train"

    def __post_init__(self):
        """Refuse options that this executor does not have (ConfigError)."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, kind, *_) -> None:
        pass

    def check(self, configs: Sequence[RunConfig]) -> None:
        """Refuse runs that could not end, as far as this machine can tell (ConfigError, DataError)."""

    def require_gpu(self) -> bool:
        """Train on CUDA GPUs alone; False where that cannot be."""
        return False

    def prepare(self, grid: Sequence[RunConfig], missing: Sequence[RunConfig], quiet: bool = False) -> None:
        """Decide how many workers train and which steps are compiled, and make both ready.

        ``grid`` is the whole study, as far as can be told beforehand, ``missing`` what is to be
        trained first. ``quiet`` prints nothing.
        """

    def time(self, configs: Sequence[RunConfig]) -> Calibration:
        """How long such runs take in the workers; empty where nobody can tell."""
        return Calibration()

    def jobs(self, configs: Sequence[RunConfig]) -> tuple[list[Job], str]:
        """What runs are trained together, and why."""
        return plan_jobs(configs, self.device, workers=self.workers, stack=self.stack, compiled=self.compiled)

    def is_stacked(self, job: Job) -> bool:
        """Whether a job is trained as a stack; so may be one of a single run."""
        return is_stacked(stack_key(job[0]), pick_device(self.device), self.stack, self.compiled)

    def run(self, configs: Sequence[RunConfig]) -> Iterator[RunResult]:
        """Train every configuration and yield each result as it is stored."""
        raise NotImplementedError
