"""How many runs of a shape train best at once: a few steps of one, two, four … members, timed once on a
machine and kept.

Shapes: R members.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import NamedTuple

import torch

from hpt.cache_folder import code_of, kept
from hpt.config import to_dict
from hpt.data.source import DataConfig, load
from hpt.device import pick_precision
from hpt.runs.run_config import RunConfig
from hpt.training import loop
from hpt.training.cuda_graph import WARM_UP
from hpt.training.programs import STEP_CODE
from hpt.training.stacked import members_that_fit, stack_key

#: Twice the members have to bring so much more tokens a second: for less, the bits of a run trained with
#: fewer are worth more.
LEAST_GAIN = 1.1
#: Doublings without that gain before no more are tried: the first one also pays for the members' axis, and
#: has brought nothing where eight members trained at three times the pace.
PATIENCE = 2
#: Steps that are timed of each number of members, at least, and for how many seconds.
LEAST_STEPS, SECONDS = 3, 0.05
#: After so many seconds no more members are tried: on a CPU that makes 16 of the smallest, and few where they
#: bring little; an H100 was full at 64 to 128 of quick's.
SECONDS_IN_ALL = {"cpu": 1, "cuda": 2, "mps": 2}


class Pace(NamedTuple):
    """What a machine does with a shape: the number of members that brings the most, and the seconds
    that a step of theirs takes, operation by operation."""

    members: int
    step_seconds: float


def pace(config: RunConfig, device: torch.device) -> Pace:
    """Of runs like this one: timed where nobody did before, kept in ``$HPT_CACHE_DIR/members``."""
    shape = stack_key(config)
    # Its steps alone count, on tokens that cost nothing to have.
    train = dataclasses.replace(shape.train, lr=1e-6, steps=10**4, tokens_per_parameter=None, loss_bound=1e30)
    data = DataConfig(source="synthetic", vocab_size=shape.model.vocab_size)
    shape = dataclasses.replace(shape, train=train, data=data)
    on_cuda = device.type == "cuda"
    depends_on = [
        to_dict(shape),
        str(pick_precision(train.precision, device)[0]),
        torch.cuda.get_device_name(device) if on_cuda else str(torch.cpu.get_capabilities()),
        torch.__version__,
        code_of(*STEP_CODE, loop),
    ]
    return Pace(*kept("members", depends_on, lambda: _timed(shape, device)))


def _timed(shape, device):
    most = members_that_fit(shape, device)
    best, in_vain, members = None, 0, 1
    end = _clock(device) + SECONDS_IN_ALL[device.type]
    with contextlib.suppress(torch.OutOfMemoryError), _one_thread():
        while members <= most and in_vain < PATIENCE and _clock(device) < end:
            seconds = _step_seconds([shape] * members, device)
            if best is None or seconds / members * LEAST_GAIN <= best.step_seconds / best.members:
                best = Pace(members, seconds)
                in_vain = 0
            else:
                in_vain += 1
            members *= 2
    if device.type == "cuda":
        # It is other processes that train.
        torch.cuda.empty_cache()
    return best or Pace(1, float("nan"))


def _step_seconds(configs, device):
    """The least of a few, so that what else the machine does counts little."""
    with contextlib.closing(loop.Training(configs, load(configs[0].data), device)) as run:
        run.advance(WARM_UP + 1 if device.type == "cuda" else 1)
        found = []
        end = _clock(device) + SECONDS
        while len(found) < LEAST_STEPS or _clock(device) < end:
            start = _clock(device)
            # It waits for the device at its end.
            run.advance(run.step + 1)
            found.append(_clock(device) - start)
        return min(found)


def _clock(device):
    """Seconds; on a CPU those that this process computes, whatever else the machine does meanwhile."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


@contextlib.contextmanager
def _one_thread():
    """As in a study's workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
