"""A training step as one compiled program: forward, backward and optimizer, made once for a shape
and kept on disk.

torch's own compiler makes it (AOTInductor, with the machine's C++ compiler). Operations between
matmuls become one pass over memory, and Python no longer starts each of them: steps of small models
are launched faster than computed.

Shapes: R runs that train at once, B sequences of a batch, T tokens of context, S steps, P entries of a group.
"""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import torch
from torch import Tensor

from hpt.cache_folder import code_of, digest, keep, look_up, scratch, writable
from hpt.config import to_dict
from hpt.data.batches import TokenSource
from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.model import linear_attention, loss, transformer
from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.training import adamw, kernels, stacked
from hpt.training.stacked import Stack

#: Takes and returns tensors in one list.
Program = Callable[[list[Tensor]], list[Tensor]]


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
    return Compiled(config, data or load(config.data)).finish()[0]


def obstacle(device: torch.device) -> str:
    """Why steps cannot be compiled here; "" where they can."""
    compiler = os.environ.get("CXX", "g++")
    if device.type != "cpu":
        return f"compiled steps are for CPUs, not {device.type}"
    if platform.system() != "Linux":
        return f"compiled steps are untried on {platform.system()}"
    return "" if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


def try_to_compile(config: RunConfig) -> str:
    """Have the step of a shape ready on disk; why that failed, in a line, or ""."""
    try:
        Compiled(config, None)
    # Whatever a compiler and its tools may raise; eager steps do as well.
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0]
        return f"{type(error).__name__}: {first_line}"
    return ""


class Compiled(Stack):
    """One run under way on the CPU, whose steps are calls of a compiled program."""

    compiled = True
    # Without gradients there is room, and operations have to be started less often.
    validation_batches = 4

    def __init__(self, config: RunConfig, data: TokenSource | None):
        super().__init__([config], data, torch.device("cpu"), by_role=True)
        self.program = program(self)

    def take_step(self, step, inputs_RxBxT, targets_RxBxT):
        scalars_3 = self.optimizer.scalars_Sx3[step]
        scale = torch.tensor(self.model.blocks[0].attention.scale)
        batch = (inputs_RxBxT, targets_RxBxT, scalars_3, scale)
        return self.program([*self.optimizer.state, *batch])[0]

    def each_member(self, loss, weights, *tensors):
        """Of one run, without vmap: batched matmuls of a batch of one are slower than plain
        ones."""
        rows = [weight_RxP[0] for weight_RxP in weights]
        return loss(rows, *(tensor[0] for tensor in tensors))[None]


def program_key(run: Compiled) -> str:
    """Hash of all that the program depends on: shapes, constants, the code of the step, torch and
    the processor."""
    c = run.config.train
    content = {
        "model": to_dict(run.config.model),
        "train": [c.optimizer, c.batch_size, c.micro_batch_size, c.clip, c.beta1, c.beta2],
        "dtype": str(run.dtype),
        "threads": torch.get_num_threads(),
        "readout": run.model.readout_multiplier,
        "groups": [[list(group.shapes.items()), group.eps] for group in run.optimizer.groups],
        "code": code_of(loss, linear_attention, transformer, adamw, stacked, kernels, sys.modules[__name__]),
        "torch": torch.__version__,
        "processor": str(torch.cpu.get_capabilities()),
    }
    return digest(content)[:20]


_loaded: dict[str, Program] = {}


def program(run: Compiled) -> Program:
    """The compiled step of a run, made where it is not on disk.

    It takes the optimizer's state, inputs and targets (1xBxT), the step's scalars and the
    attention's scale, all in one list; it changes the state in place and returns a list of the loss
    (1,).
    """
    key = program_key(run)
    if key not in _loaded:
        name = f"{key}.pt2"
        package = look_up("programs", name, own=True)
        folder = writable("programs", own=True)
        if package is None:
            package = _made(run, folder / name)
        _loaded[key] = _load(package, folder)
    return _loaded[key]


def _made(run, path):
    """The program as a file's content, compiled and kept; others of this shape wait for the first."""
    with filelock.FileLock(path.with_suffix(".lock")):
        package = look_up("programs", path.name, own=True)
        if package is None:
            package = _compiled(run, path.parent)
            keep(path, package)
    return package


def _compiled(run, folder):
    reason = obstacle(run.device)
    if reason:
        raise ConfigError(
            "a compiled step cannot be had here.", reason, "hpt.train(config), which needs none"
        )
    with scratch(folder) as aside, _temporary_files_in(aside):
        _compile(run, aside / "program.pt2")
        return (aside / "program.pt2").read_bytes()


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Has torch, its compiler and its loader work there: their own place, /tmp/torchinductor_USER, has a
    name that others can take first."""
    ours = {"TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _compile(run, path):
    from torch._inductor import aoti_compile_and_package
    from torch.fx.experimental.proxy_tensor import make_fx

    arguments = (run.optimizer.state, *run.first_inputs(), torch.tensor(1.0))
    # Through autograd, which torch.export does not see through; on shapes alone, but for the
    # model's constants.
    trace = make_fx(
        _step_on_tensors(run), kernels.decompositions(), tracing_mode="fake", _allow_non_fake_inputs=True
    )
    graph = trace(*arguments)
    kernels.write_clones(graph)
    with torch.no_grad(), warnings.catch_warnings():
        # What torch's compiler says to its own authors.
        warnings.simplefilter("ignore")
        exported = torch.export.export(graph, arguments)
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=kernels.QUICKLY)


def _step_on_tensors(run):
    """The step as a function of tensors alone. The attention's scale is one, so that
    parameterizations share the program."""
    twin = copy.copy(run)
    twin.model = copy.deepcopy(run.model)

    def step(state, inputs, targets, scalars_3, scale):
        twin.optimizer = run.optimizer.with_state(state)
        for block in twin.model.blocks:
            block.attention.scale = scale
        return twin.optimizer_step(inputs, targets, scalars_3)

    return step


def _load(package, folder):
    """Unpack the program, map it into memory and remove what was unpacked: a killed process would
    leave it behind.

    By the class that torch's ``aoti_load_package`` wraps: that one imports the whole compiler
    first, 2.5 s, and tries the processor's instructions with the C++ compiler, several seconds
    where torch's caches are empty.
    """
    with scratch(folder) as unpacked, _temporary_files_in(unpacked):
        path = unpacked / "program.pt2"
        path.write_bytes(package)
        return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1).boxed_run
