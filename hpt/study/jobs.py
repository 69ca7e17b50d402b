"""Jobs: runs that one worker trains together into a store, whichever executor the worker belongs
to."""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack

import torch

from hpt.data.source import load
from hpt.device import pick_device
from hpt.errors import CompileWarning, ConfigError
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.runs.store import Store
from hpt.study.timing import shape_of
from hpt.training.compiled import train_compiled, try_to_compile
from hpt.training.loop import train
from hpt.training.members import pace
from hpt.training.programs import obstacle
from hpt.training.stacked import even_chunks, members_that_fit, stack_key, train_stacked

#: Runs that one worker trains together.
Job = tuple[RunConfig, ...]

#: A study compiles the step of a shape that takes so many steps in all. A program takes 15 to 20 s to
#: make and saves 4 to 16 ms a step, as measured at widths 32 to 512, 1024 tokens a step.
STEPS_TO_COMPILE = 4000
#: On CUDA the seconds of steps that a program saves decide. Steps of stacks took 60 to 66 % less at widths 64
#: to 1024 on an H200, and a program 13 to 24 s to make.
SHARE_SAVED, SECONDS_TO_COMPILE = 0.6, 24
NOT_COMPILED = "the step at width {} could not be compiled and runs as it is: {}"


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
    picked = pick_device(device)
    hindrance = obstacle(picked)
    if hindrance and wanted:
        raise ConfigError("compiled=True cannot be had here.", hindrance, "compiled=None")
    if hindrance:
        return frozenset(), f"steps not compiled: {hindrance}"
    steps = Counter()
    for config in configs:
        steps[shape_of(config)] += run_steps(config)
    shapes = frozenset(shape for shape, count in steps.items() if wanted or _pays(shape, count, picked))
    if not shapes:
        return shapes, "steps not compiled: too few to pay for it"
    widths = sorted({shape.model.width for shape in shapes})
    return shapes, f"steps compiled at width {', '.join(map(str, widths))}"


def _pays(shape, steps, device):
    if device.type == "cpu":
        return steps >= STEPS_TO_COMPILE
    members, step_seconds = pace(shape, device)
    return SHARE_SAVED * step_seconds * steps / members > SECONDS_TO_COMPILE


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
    stack: True stacks what goes together and fits into memory, False nothing; None as many as
        :func:`hpt.training.members.pace` says.
    compiled: shapes whose steps are compiled: where None decides, a CPU trains them alone.

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
        most = 1
        if is_stacked(key, picked, stack, compiled):
            wanted = share if stack else pace(shape_of(key), picked).members
            most = min(wanted, share, members_that_fit(key, picked, workers))
        jobs += even_chunks(runs, most)
    why = "as many as still brought more tokens a second when timed" if stack is None else "as asked"
    # The longest job of a width is seen last.
    sizes = {job[0].model.width: len(job) for job in sorted(jobs, key=len) if len(job) > 1}
    stacks = ", ".join(f"{size} at width {width}" for width, size in sorted(sizes.items()))
    jobs.sort(key=lambda job: sum(map(run_flops, job)), reverse=True)
    return jobs, f"stacks of {stacks}; {why}" if stacks else f"one by one; {why}"


def is_stacked(
    config: RunConfig, device: torch.device, stack: bool | None, compiled: Collection[RunConfig]
) -> bool:
    """Whether runs like this one train as stacks, one alone too: so the bits of a run do not hang on how
    many were missing."""
    if stack is not None:
        return stack
    if device.type == "cpu" and shape_of(config) in compiled:
        return False
    return pace(shape_of(config), device).members > 1


#: Sources stay open in a worker from job to job.
_open_source = functools.lru_cache(maxsize=4)(load)


def run_job(
    configs: Sequence[RunConfig], store_path: str, device: str, stacked: bool = False, compiled: bool = False
) -> list[str]:
    """Train the configurations that no other process stored meanwhile, as a stack or one by one; returns
    the ids of all."""
    store = Store(store_path)
    data = _open_source(configs[0].data)
    by_id = {config.run_id(data.fingerprint): config for config in configs}
    with ExitStack() as locks:
        # Sorted, so that two jobs never wait for each other.
        for run_id in sorted(by_id):
            if run_id not in store:
                locks.enter_context(store.lock(run_id))
        missing = [config for run_id, config in by_id.items() if run_id not in store]
        for result in _train(missing, data, device, stacked, compiled):
            store.save(result)
    return list(by_id)


def _train(configs, data, device, stacked, compiled):
    if not configs:
        return []
    if compiled:
        members = len(configs) if stacked else 1
        compiled = _has_program(stack_key(configs[0]), members, device, stacked)
    if stacked:
        return train_stacked(configs, data=data, device=device, compiled=compiled)
    train_one = train_compiled if compiled else train
    return [train_one(config, data=data, device=device) for config in configs]


@functools.cache
def _has_program(key, members, device, stacked):
    """Whether the step of so many such runs can be compiled: tried once in a worker, and told."""
    failure = try_to_compile([key] * members, device, stacked)
    if failure:
        text = NOT_COMPILED.format(key.model.width, failure)
        warnings.warn(text, CompileWarning, stacklevel=4)
    return not failure
