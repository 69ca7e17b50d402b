"""A training step as one CUDA graph, so that its hundreds of kernel launches cost one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Calls before the capture: torch asks for a few, on a stream of their own. They are steps like any other.
WARM_UP = 3


class Captured:
    """Call ``step``; on CUDA, replay its captured launches from the fourth call on.

    No GPU has run this yet: elsewhere than on CUDA every call is a plain one.

    Parameters
    ----------
    step: takes tensors, whose shapes stay, and changes tensors of its own in place. It must not ask
        for a tensor's value, and not keep values in Python numbers: a replay repeats the launches,
        not the Python code.
    place: the device.
    """

    def __init__(self, step: Callable[..., Tensor], place: torch.device):
        self.step, self.place = step, place
        self.calls, self.graph = 0, None

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.place.type != "cuda":
            return self.step(*inputs)
        if self.calls == 0:
            self.inputs = [x.clone() for x in inputs]
        for held, given in zip(self.inputs, inputs, strict=True):
            held.copy_(given)
        self.calls += 1
        if self.calls <= WARM_UP:
            side = torch.cuda.Stream(self.place)
            side.wait_stream(torch.cuda.current_stream(self.place))
            with torch.cuda.stream(side):
                output = self.step(*self.inputs)
            torch.cuda.current_stream(self.place).wait_stream(side)
            return output
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = self.step(*self.inputs)  # recorded, not run
        self.graph.replay()
        return self.output
