"""A training step as one CUDA graph, so that its hundreds of kernel launches cost one."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable

import torch
from torch import Tensor

#: Calls before the capture: torch asks for a few, on a stream of their own. They are steps like any other.
WARM_UP = 3


class CapturedGraph:
    """The launches of a step, captured at its fourth call on CUDA and replayed from then on.

    It holds tensors alone, not the step: so whoever owns it is freed with its last reference, and
    :meth:`release` frees the graph before. Elsewhere than on CUDA every call is a plain one.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.calls = 0
        self.graph = None
        self.inputs = self.output = None

    def run(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """What ``step(*inputs)`` gives; the same step at every call.

        It takes tensors, whose shapes stay, and changes tensors of its own in place. It must not
        ask for a tensor's value, and not keep values in Python numbers: a replay repeats the
        launches, not the Python code.
        """
        if self.device.type != "cuda":
            return step(*inputs)
        if self.calls == 0:
            self.inputs = [x.clone() for x in inputs]
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._warm_up(step)
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            # Recorded, not run. What other threads do meanwhile is none of its business.
            with _no_collector(), torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.output = step(*self.inputs)
        self.graph.replay()
        return self.output

    def release(self) -> None:
        """Free the graph and its memory now; a later call captures anew."""
        if self.graph is not None:
            self.graph.reset()
        self.calls = 0
        self.graph = self.inputs = self.output = None

    def _warm_up(self, step):
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            output = step(*self.inputs)
        torch.cuda.current_stream(self.device).wait_stream(side)
        return output


@contextlib.contextmanager
def _no_collector():
    """Python's cycle collector waits: it may find a graph that somebody's traceback held, and CUDA
    can free none while another is captured."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
