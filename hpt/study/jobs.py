"""Jobs: runs that one worker trains together into a store, whichever executor the worker belongs
to."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack

import torch

from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import ConfigError
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.runs.store import Store
from hpt.study.timing import shape_of
from hpt.training.compiled import obstacle, train_compiled
from hpt.training.loop import train
from hpt.training.optimizers import only_alone
from hpt.training.stacked import even_chunks, members_that_fit, stack_key, train_stacked

#: Runs that one worker trains together.
Job = tuple[RunConfig, ...]

#: A GPU is taken as full when a kernel launch does so many FLOPs: what 400 TFLOP/s do while one kernel
#: starts, in about 2.5 µs. An estimate, not measured.
FLOPS_TO_FILL_A_GPU = 1e9
#: Kernel launches of a bf16 training step, as counted from its operations: so many a block, so many beside.
LAUNCHES_PER_BLOCK, LAUNCHES_BESIDE = 90, 70
#: On a CPU, steps of fewer FLOPs go faster in a stack. Gains measured on one thread of a Xeon with AMX,
#: whole runs in stacks of 5 or 7, bf16 and fp32: 2.1 and 1.7 at 8e6 FLOPs a step, 1.9 and 1.6 at 2e7,
#: 1.7 and 1.4 at 5e7, 1.4 and 1.1 at 2e8, 1.3 and 1.0 at 5e8. Where little is to be gained, the bits of
#: a run trained alone are worth more.
FLOPS_TO_STACK_ON_A_CPU = 5e7
#: More members share the launches further, and the caches too; 5 and 7 were measured.
MOST_ON_A_CPU = 8
#: A study compiles the step of a shape that takes so many steps in all. A program takes 15 to 20 s to
#: make and saves 4 to 16 ms a step, as measured at widths 32 to 512, 1024 tokens a step.
STEPS_TO_COMPILE = 4000
WHY = {
    "cpu": f"on a CPU stacks pay below {FLOPS_TO_STACK_ON_A_CPU:.0e} FLOPs a step",
    "cuda": f"a kernel that does {FLOPS_TO_FILL_A_GPU:.0e} FLOPs fills a GPU (an estimate)",
}


def shapes_to_compile(
    configs: Sequence[RunConfig], device: str = "auto", wanted: bool | None = None
) -> tuple[frozenset[RunConfig], str]:
    """The shapes of a whole study whose step is to be a compiled program, and the reason in words.

    A function of all runs of the study, not of those that are missing: then a run's bits do not
    hang on how much of the study was done before. ``wanted`` True or False replaces the question
    whether it pays.

    Raises
    ------
    ConfigError: where it is wanted and cannot be.
    """
    if wanted is False:
        return frozenset(), "steps not compiled, as asked"
    hindrance = obstacle(pick_device(device))
    if hindrance and wanted:
        raise ConfigError("compiled=True cannot be had here.", hindrance, "compiled=None")
    if hindrance:
        return frozenset(), f"steps not compiled: {hindrance}"
    steps = Counter()
    for config in configs:
        # A program of many micro-batches takes minutes to make.
        if not config.train.micro_batch_size and not only_alone(config.train):
            steps[shape_of(config)] += run_steps(config)
    least = 0 if wanted else STEPS_TO_COMPILE
    shapes = frozenset(shape for shape, count in steps.items() if count >= least)
    if not shapes:
        return shapes, "steps not compiled: too few to pay for it"
    widths = sorted({shape.model.width for shape in shapes})
    return shapes, f"steps compiled at width {', '.join(map(str, widths))}"


def plan_jobs(
    configs: Sequence[RunConfig],
    device: str = "auto",
    *,
    workers: int = 1,
    stack: bool | None = None,
    compiled: Collection[RunConfig] = (),
) -> tuple[list[Job], str]:
    """Group runs into jobs: a stack of runs that train at once, or a run alone.

    Parameters
    ----------
    configs: the runs.
    device: as in :func:`hpt.train`.
    workers: how many processes share the device; every one gets a job where there are enough runs.
    stack: True stacks what goes together and fits into memory, False nothing; None decides by
        device and width.
    compiled: shapes whose steps are compiled: alone, they are faster than in a stack.

    Returns
    -------
    The jobs, longest first, and the reason in words.
    """
    picked = pick_device(device)
    alike = defaultdict(list)
    for config in configs:
        alike[stack_key(config)].append(config)
    share = math.ceil(len(configs) / workers)
    jobs = []
    for key, runs in alike.items():
        most = members_wanted(key, picked) if stack is None else len(runs)
        if stack is False or shape_of(key) in compiled:
            most = 1
        most = min(most, share)
        if most > 1:
            most = min(most, members_that_fit(key, picked, workers))
        jobs += even_chunks(runs, most)
    why = WHY.get(picked.type, f"no gain is known on {picked.type}")
    if stack is not None:
        why = "as asked"
    # The longest job of a width is seen last.
    sizes = {job[0].model.width: len(job) for job in sorted(jobs, key=len) if len(job) > 1}
    stacks = ", ".join(f"{size} at width {width}" for width, size in sorted(sizes.items()))
    jobs.sort(key=lambda job: sum(map(run_flops, job)), reverse=True)
    return jobs, f"stacks of {stacks}; {why}" if stacks else f"one by one; {why}"


def members_wanted(config: RunConfig, device: torch.device) -> int:
    """How many runs of a shape keep the device busy when they train at once; 1 where stacking does
    not pay, or cannot be."""
    train = config.train
    if only_alone(train):
        return 1
    flops_a_step = run_flops(config) / run_steps(config)
    if device.type == "cpu":
        return MOST_ON_A_CPU if flops_a_step < FLOPS_TO_STACK_ON_A_CPU else 1
    if device.type == "cuda":
        micro_batches = math.ceil(train.batch_size / (train.micro_batch_size or train.batch_size))
        launches = micro_batches * (LAUNCHES_PER_BLOCK * config.model.depth + LAUNCHES_BESIDE)
        return max(1, round(FLOPS_TO_FILL_A_GPU * launches / flops_a_step))
    return 1


#: Sources stay open in a worker from job to job.
_open_source = functools.lru_cache(maxsize=4)(load)


def run_job(
    configs: Sequence[RunConfig],
    store_path: str,
    device: str,
    stack: bool | None = None,
    compiled: bool = False,
) -> list[str]:
    """Train the configurations that no other process stored meanwhile, several as a stack; returns
    the ids of all.

    Where "auto" stacks runs of this shape, one alone is a stack of one: then its bits do not hang
    on how many were missing, as far as the device's batched matmuls do not.
    """
    store = Store(store_path)
    data = _open_source(configs[0].data)
    by_id = {config.run_id(data.fingerprint): config for config in configs}
    with ExitStack() as locks:
        # Sorted, so that two jobs never wait for each other.
        for run_id in sorted(by_id):
            if run_id not in store:
                locks.enter_context(store.lock(run_id))
        missing = [config for run_id, config in by_id.items() if run_id not in store]
        for result in _train(missing, data, device, stack, compiled):
            store.save(result)
    return list(by_id)


def _train(configs, data, device, stack, compiled):
    if not configs:
        return []
    if compiled:
        return [train_compiled(config, data=data) for config in configs]
    stacked = stack is not False and members_wanted(configs[0], pick_device(device)) > 1
    if stacked or len(configs) > 1:
        return train_stacked(configs, data=data, device=device)
    return [train(config, data=data, device=device) for config in configs]
