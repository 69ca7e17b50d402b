"""A training step as one compiled program: forward, backward and AdamW, made once for a shape and
kept on disk.

torch's own compiler makes it (AOTInductor, with the machine's C++ compiler). Operations between
matmuls become one
pass over memory, and Python no longer starts each of them: steps of small models are launched
    faster than computed.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import torch
from torch import Tensor

from hpt.cache_folder import cache_root, code_of, digest
from hpt.config import to_dict
from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.model import readout_loss as cross_entropy
from hpt.model import transformer as model
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.training import adamw as stacked_adamw
from hpt.training import kernels as gelu
from hpt.training import stacked
from hpt.training.adamw import StackedGroup
from hpt.training.stacked import Stack

Program = Callable[[list[Tensor]], list[Tensor]]

#: What of a :class:`hpt.training.adamw.StackedGroup` a step reads and changes.
STATE = ("weight_RxP", "mean_RxP", "square_RxP", "lr_Rx1", "decay_Rx1")

#: The code that calls kernels and matmuls is compiled as it is: some 3 s less to wait for, and no slower a step. And
#: the compiler is taken to know the processor's instructions: to try each of them takes torch 7 s, the first time.
QUICKLY = {
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "cpp.vec_isa_ok": True,
    "aot_inductor.precompile_headers": False,
    "aot_inductor.enable_line_tables": False,
}

#: Entries of a row from which on torch's own softmax is the faster: 2 % of a step at 2048, 10 % at 8192.
LONG_ROW = 2048


def train_compiled(config: RunConfig, *, data: TokenSource | None = None) -> RunResult:
    """Train one model on the CPU with a compiled step.

    The first run of a shape (model, batch and roles; not learning rates, seed or steps) makes the
    program, which takes 15 to 40 s on one core; later ones, of other processes too, load it from
    ``$HPT_CACHE_DIR/programs``.

    Parameters
    ----------
    config, data: as in :func:`hpt.train`.

    Returns
    -------
    The result; it equals that of :func:`hpt.train` to rounding, not to the bit, and its
    ``compiled`` is True.

    Raises
    ------
    ConfigError: where the program is to be made and :func:`obstacle` names one.
    """
    run = Compiled(config, data or load(config.data))
    run.train()
    return run.result()


def try_to_compile(config: RunConfig) -> str:
    """Have the step of a shape ready on disk; why that failed, in a line, or ""."""
    try:
        Compiled(config, None)
    except (
        Exception
    ) as error:  # whatever a compiler and its tools may raise; eager steps do as well
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return ""


def obstacle(place: torch.device) -> str:
    """Why steps cannot be compiled here; "" where they can."""
    compiler = os.environ.get("CXX", "g++")
    if place.type != "cpu":
        return f"compiled steps are for CPUs, not {place.type}"
    if platform.system() != "Linux":
        return f"compiled steps are untried on {platform.system()}"
    return "" if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


class Compiled(Stack):
    """One run under way on the CPU, whose steps are calls of a compiled program."""

    validation_batches = (
        4  # without gradients there is room, and operations have to be started less often
    )

    def __init__(self, config: RunConfig, data: TokenSource | None):
        super().__init__([config], data, torch.device("cpu"), by_role=True)
        state, scale = _state(self.groups), torch.tensor(self.model.blocks[0].attention.scale)
        step = program(self)
        self.take_step = lambda *inputs: step([*state, *inputs, scale])[0]

    def _mean_losses(self, weights: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """As of one run, without vmap: batched matmuls of a batch of one are slower than plain
        ones."""
        if inputs.ndim == 3:
            inputs, targets = inputs[0], targets[0]
        return self._mean_loss(tuple(weight[0] for weight in weights), inputs, targets)[None]

    def results(self) -> list[RunResult]:
        return [dataclasses.replace(result, compiled=True) for result in super().results()]

    def result(self) -> RunResult:
        """The record of the run, as that of a :class:`hpt.training.loop.Training`."""
        return self.results()[0]


def _state(groups: Sequence[StackedGroup]) -> list[Tensor]:
    return [getattr(group, name) for group in groups for name in STATE]


def program(run: Compiled) -> Program:
    """The compiled step of a run, made where it is not on disk.

    It takes the state's tensors, inputs and targets (1xBxT), the three scalars of
    :func:`hpt.training.adamw.step_scalars` and the attention's scale, all in one list; it changes
    the state in place and returns a list of the loss (1,).
    """
    key = program_key(run)
    if key not in _loaded:
        path = cache_root() / "programs" / f"{key}.pt2"
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(
            path.with_suffix(".lock")
        ):  # others of this shape wait for the first
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                    _compile(run, Path(scratch) / path.name)
                    os.replace(Path(scratch) / path.name, path)
        _loaded[key] = _load(path)
    return _loaded[key]


def _load(path: Path) -> Program:
    """Unpack the program, map it into memory and remove what was unpacked: a killed process would
    leave it behind.

    By the class that torch's ``aoti_load_package`` wraps: that one imports the whole compiler
    first, 2.5 s, and tries the processor's instructions with the C++ compiler, several seconds
    where torch's caches are empty.
    """
    kept = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        os.environ["TMPDIR"] = scratch
        try:
            return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1).boxed_run
        finally:
            if kept is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = kept


def program_key(run: Compiled) -> str:
    """Hash of all that the program depends on: shapes, constants, the code of the step, torch and
    the processor."""
    c = run.config
    train = {
        name: getattr(c.train, name)
        for name in ("batch_size", "micro_batch_size", "clip", "beta1", "beta2")
    }
    content = {
        "model": to_dict(c.model),
        "train": train,
        "dtype": str(run.dtype),
        "threads": torch.get_num_threads(),
        "readout": run.model.readout_multiplier,
        "groups": [
            [{name: list(shape) for name, shape in g.shapes.items()}, g.eps] for g in run.groups
        ],
        "code": _code(),
        "torch": torch.__version__,
        "processor": str(torch.cpu.get_capabilities()),
    }
    return digest(content)[:20]


@functools.cache
def _code() -> str:
    """The source of the modules that make up the step."""
    return code_of(cross_entropy, gelu, model, stacked, stacked_adamw, sys.modules[__name__])


_loaded: dict[str, Program] = {}


@torch.library.custom_op("hpt::softmax", mutates_args=())
def _own_softmax(x: Tensor) -> Tensor:
    return x.softmax(-1)


_own_softmax.register_fake(torch.empty_like)


def _softmax(x: Tensor, axis: int, half_to_float: bool) -> Tensor:
    """Over the last axis, of rows: in more axes than two the compiler writes all exponentials down,
    in fp32."""
    if x.shape[-1] >= LONG_ROW:
        return _own_softmax(x)
    rows = x.flatten(0, -2).float()
    exponentials = (rows - rows.amax(-1, keepdim=True)).exp()
    return (exponentials * (1 / exponentials.sum(-1, keepdim=True))).to(x.dtype).view_as(x)


def _write_clones(graph: torch.fx.GraphModule) -> None:
    """Have every clone written to memory as it stands.

    Otherwise the compiler may compute it anew wherever it is read, and in the reader's shape: a
    transposed tensor, read as a matrix, is then copied number by number.
    """
    for clone in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default):
        value = clone.meta["val"]
        with graph.graph.inserting_after(clone):
            written = graph.graph.call_function(
                torch.ops.aten.as_strided.default, (clone, list(value.shape), list(value.stride()))
            )
        written.meta = dict(clone.meta)
        clone.replace_all_uses_with(
            written, delete_user_cb=lambda user, written=written: user is not written
        )
    graph.recompile()


def _compile(run: Compiled, path: Path) -> None:
    if reason := obstacle(run.place):
        raise ConfigError(
            "a compiled step cannot be had here.", reason, "hpt.train(config), which needs none"
        )
    from torch._inductor import aoti_compile_and_package
    from torch.fx.experimental.proxy_tensor import make_fx

    twin, c = copy.copy(run), run.config
    twin.model, twin.groups = copy.deepcopy(run.model), [copy.copy(group) for group in run.groups]

    def step(
        state: list[Tensor], inputs: Tensor, targets: Tensor, scalars_3: Tensor, scale: Tensor
    ) -> Tensor:
        for (group, name), tensor in zip(itertools.product(twin.groups, STATE), state, strict=True):
            setattr(group, name, tensor)
        for (
            block
        ) in twin.model.blocks:  # the scale an input, so that parameterizations share the program
            block.attention.scale, block.mlp.gelu = scale, gelu.gelu
        return twin._step(inputs, targets, scalars_3)

    ids = torch.zeros(1, c.train.batch_size, c.model.context, dtype=torch.int64)
    arguments = _state(run.groups), ids, ids.clone(), run.scalars_Sx3[0], torch.tensor(1.0)
    # Through autograd, which torch.export does not see through; on shapes alone, but for the
    # model's constants.
    graph = make_fx(
        step,
        {torch.ops.aten._softmax.default: _softmax},
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(*arguments)
    _write_clones(graph)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler says to its own authors
        exported = torch.export.export(graph, arguments)
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=QUICKLY)
