"""What the compiler is told of a training step: operations that it would write less well, and its
options."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

aten = torch.ops.aten

#: The code that calls kernels and matmuls is compiled as it is: some 3 s less to wait for, and no
#: slower a step. And the compiler is taken to know the processor's instructions: to try each of them
#: takes torch 7 s, the first time.
QUICKLY = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "cpp.vec_isa_ok": True,
    "aot_inductor.precompile_headers": False,
    "aot_inductor.enable_line_tables": False,
}

#: Entries of a row from which on torch's own softmax is the faster: 2 % of a step at 2048, 10 % at
#: 8192.
LONG_ROW = 2048


def options() -> dict:
    """Those of ``QUICKLY`` that this torch has: 2.11 lacks one of 2.13's."""
    from torch._inductor import config

    known = config.get_config_copy()
    return {name: value for name, value in QUICKLY.items() if name in known}


def decompositions() -> dict:
    """Operations of torch by what they are replaced with while one step is traced."""
    gelu = Gelu()
    return {
        aten._softmax.default: softmax,
        aten.gelu.default: gelu.value,
        aten.gelu_backward.default: gelu.gradient,
    }


class Gelu:
    """h·Φ(h) (Hendrycks & Gimpel 2016) with its slope Φ(h) + h·φ(h), in the dtype of h.

    Φ and the density φ share exp(−h²/2), so value and slope are made together: torch's own takes
    three exponentials forward and backward. The slope waits here for the backward pass.
    """

    def __init__(self):
        self.slopes = {}

    def value(self, h, approximate="none") -> Tensor:
        """The value; takes the slope as well."""
        z = h.float()
        cdf, density = normal(z)
        value = (z * cdf).to(h.dtype)
        slope = (cdf + z * density).to(h.dtype)
        # A clone is compiled into a tensor, see write_clones.
        self.slopes[h] = slope.clone()
        return value

    def gradient(self, grad, h, approximate="none") -> Tensor:
        """The gradient of ``h``, whose value was taken before."""
        return grad * self.slopes.pop(h)


def normal(z: Tensor) -> tuple[Tensor, Tensor]:
    """Φ(z) and φ(z) of the standard normal distribution, Φ to 8e-8 (Abramowitz & Stegun 1964,
    7.1.26)."""
    exponential = torch.exp(-0.5 * z * z)
    t = 1 / (1 + 0.3275911 / math.sqrt(2) * z.abs())
    series = 1.061405429
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = coefficient + t * series
    tail = 0.5 * exponential * (t * series)
    return torch.where(z < 0, tail, 1 - tail), exponential / math.sqrt(2 * math.pi)


@torch.library.custom_op("hpt::softmax", mutates_args=())
def long_softmax(x: Tensor) -> Tensor:
    """Torch's own softmax over the last axis, which the compiler leaves alone."""
    return x.softmax(-1)


long_softmax.register_fake(torch.empty_like)


def softmax(x, axis, half_to_float) -> Tensor:
    """Softmax over the last axis, of rows: in more axes than two the compiler writes all
    exponentials down, in fp32."""
    if x.shape[-1] >= LONG_ROW:
        return long_softmax(x)
    rows = x.flatten(0, -2).float()
    exponentials = (rows - rows.amax(-1, keepdim=True)).exp()
    return (exponentials * (1 / exponentials.sum(-1, keepdim=True))).to(x.dtype).view_as(x)


def write_clones(program: fx.GraphModule) -> None:
    """Have every clone written to memory as it stands.

    Otherwise the compiler may compute it anew wherever it is read, and in the reader's shape: a
    transposed tensor, read as a matrix, is then copied number by number.
    """
    graph = program.graph
    for clone in graph.find_nodes(op="call_function", target=aten.clone.default):
        value = clone.meta["val"]
        readers = list(clone.users)
        with graph.inserting_after(clone):
            layout = (clone, list(value.shape), list(value.stride()))
            written = graph.call_function(aten.as_strided.default, layout)
        written.meta = dict(clone.meta)
        for reader in readers:
            reader.replace_input_with(clone, written)
    program.recompile()
