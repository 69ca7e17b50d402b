"""A training step as one compiled program: forward, backward and optimizer, made once for a shape
and kept on disk.

torch's own compiler makes it: for a CPU a library (AOTInductor, with the machine's C++ compiler), for
CUDA its kernels with the Python that launches them, which a captured graph repeats without it.
Operations between matmuls become one pass over memory, and Python no longer starts each of them: steps
of small models are launched faster than computed.

All of torch that is not public is asked for here.

Shapes: R members, B sequences of a batch, T tokens of context.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import functools
import itertools
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence

import filelock
import torch
from torch import Tensor

from hpt.cache_folder import code_of, digest, keep, look_up, scratch, writable
from hpt.config import to_dict
from hpt.errors import ConfigError
from hpt.files import environment
from hpt.model import linear_attention, loss, transformer
from hpt.runs.run_config import RunConfig
from hpt.training import adamw, kernels, lion, muon, sgd, step, weights
from hpt.training.step import Step, parts
from hpt.training.weights import Group, all_tensors, named_weights

#: The modules whose code a step is.
STEP_CODE = (loss, linear_attention, transformer, adamw, lion, muon, sgd, weights, step)
#: Takes and returns tensors in one list.
Program = Callable[[list[Tensor]], Sequence[Tensor]]


def obstacle(device: torch.device) -> str:
    """Why steps cannot be compiled here; "" where they can."""
    compiler = os.environ.get("CXX", "g++")
    if device.type not in ("cpu", "cuda"):
        return f"compiled steps are for CPUs and CUDA, not {device.type}"
    if platform.system() != "Linux":
        return f"compiled steps are untried on {platform.system()}"
    if device.type == "cuda" and not _has_triton():
        return "torch finds no Triton for this GPU"
    return "" if shutil.which(compiler) else f"there is no C++ compiler {compiler!r}"


def _has_triton():
    from torch.utils._triton import has_triton

    return has_triton()


def program(
    config: RunConfig, one_step: Step, groups: Sequence[Group], first_inputs: Sequence[Tensor]
) -> Callable[..., Tensor]:
    """The compiled step of runs like this one, made where it is not on disk; it takes what
    :meth:`hpt.training.step.Step.__call__` does.

    Of micro-batches it is two programs, one that adds a micro-batch's gradients and one that changes the
    weights: all of them in one would take as many times as long to make.

    Parameters
    ----------
    config: any of the runs.
    one_step, groups, first_inputs: their step, and tensors such as it takes.

    Raises
    ------
    ConfigError: where the program is to be made and :func:`obstacle` names one.
    """
    made = functools.partial(_program, config, one_step, groups)
    *batch, scalars_Gx5 = first_inputs
    count, rest = divmod(batch[0].shape[1], one_step.sequences)
    if rest or count == 1:
        return made(Step.__call__, first_inputs)
    share = scalars_Gx5.new_tensor(1 / count)
    sums = _zeros(groups)
    add = made(_add_gradients, [*_split(one_step, *batch)[0], share, *sums])
    change = made(_change, [scalars_Gx5, *sums])

    def in_two(groups, inputs_RxBxT, targets_RxBxT, scalars_Gx5):
        sums = _zeros(groups)
        losses = 0.0
        for micro_batch in _split(one_step, inputs_RxBxT, targets_RxBxT):
            losses = losses + add(groups, *micro_batch, share, *sums)
        change(groups, scalars_Gx5, *sums)
        return losses

    return in_two


def _zeros(groups):
    """A number for each of the weights, by parameter."""
    return [torch.zeros_like(weight) for weight in named_weights(groups).values()]


def _split(one_step, inputs_RxBxT, targets_RxBxT):
    """Micro-batches, each in memory of its own."""
    split = parts(inputs_RxBxT, targets_RxBxT, one_step.sequences, axis=1)
    return [[side.contiguous() for side in micro_batch] for micro_batch in split]


def _add_gradients(one_step, groups, inputs, targets, share, *sums):
    """Add a micro-batch's share of the batch's gradients; its share of the losses, (R,)."""
    grads, losses_R = one_step.gradients(groups, inputs, targets)
    for total, grad in zip(sums, grads.values(), strict=True):
        total.add_(grad * share)
    return losses_R * share


def _change(one_step, groups, scalars_Gx5, *sums):
    """Change the weights by these gradients."""
    one_step.change(groups, dict(zip(named_weights(groups), sums, strict=True)), scalars_Gx5)
    return scalars_Gx5.sum()


def _program(config, one_step, groups, task, first_inputs):
    """``task(one_step, groups, *inputs)``, which gives a tensor, as a program: it takes groups and inputs."""
    device = first_inputs[0].device
    scale = one_step.model.blocks[0].attention.scale
    # All tensors of the program come from outside, so that it holds none.
    fixed = [*one_step.constants.values(), torch.tensor(scale, device=device)]
    arguments = [*all_tensors(groups), *first_inputs, *fixed]
    key = program_key(config, one_step, groups, task, arguments)
    if key not in _loaded:
        graph = functools.partial(_traced, one_step, groups, task, len(first_inputs), arguments)
        _loaded[key] = _found_or_made(key, graph, arguments)
    made = _loaded[key]
    return lambda groups, *inputs: made([*all_tensors(groups), *inputs, *fixed])[0]


def program_key(
    config: RunConfig, one_step: Step, groups: Sequence[Group], task: Callable, arguments: Sequence[Tensor]
) -> str:
    """Hash of all that the program depends on: shapes, constants, the code of the step, torch and
    the processor."""
    c = config.train
    device = arguments[0].device
    on_cuda = device.type == "cuda"
    content = {
        "task": task.__name__,
        "model": to_dict(config.model),
        "train": [c.optimizer, c.micro_batch_size, c.clip, c.beta1, c.beta2, c.momentum],
        "arguments": [list(x.shape) for x in arguments],
        "dtype": str(one_step.dtype),
        "stacked": one_step.stacked,
        "threads": torch.get_num_threads(),
        "readout": one_step.model.readout_multiplier,
        "groups": [[group.role, list(group.shapes.items()), group.eps] for group in groups],
        "code": code_of(*STEP_CODE, kernels, sys.modules[__name__]),
        "torch": torch.__version__,
        "processor": torch.cuda.get_device_name(device) if on_cuda else str(torch.cpu.get_capabilities()),
    }
    return digest(content)[:20]


_loaded: dict[str, Program] = {}


def _found_or_made(key, graph, arguments):
    device = arguments[0].device
    name = f"{key}.pt2"
    package = look_up("programs", name, own=True)
    folder = writable("programs", own=True)
    if package is None:
        # Others of this shape wait for the first.
        with filelock.FileLock(folder / f"{key}.lock"):
            package = look_up("programs", name, own=True)
            if package is None:
                package = _compiled(graph, arguments, folder)
                keep(folder / name, package)
    return (_load_for_cuda if device.type == "cuda" else _load)(package, folder)


def _compiled(graph, arguments, folder):
    """The program as a file's content."""
    device = arguments[0].device
    reason = obstacle(device)
    if reason:
        raise ConfigError(
            "a compiled step cannot be had here.", reason, "hpt.train(config), which needs none"
        )
    with scratch(folder) as aside:
        path = aside / "program.pt2"
        if device.type == "cuda":
            _work_in(folder)
            _compile_for_cuda(graph, arguments, path)
        else:
            with _temporary_files_in(aside):
                _compile(graph, arguments, path)
        return path.read_bytes()


@functools.cache
def _work_in(folder):
    """Has torch and Triton work in a place of this process there, until it ends: the processes that make
    kernels live on with the place that they were started with, and kernels are read when they are
    launched first."""
    kept = contextlib.ExitStack()
    atexit.register(kept.close)
    kept.enter_context(_temporary_files_in(kept.enter_context(scratch(folder))))


def _temporary_files_in(folder):
    """Has torch, its compiler and its loader work there: their own place, /tmp/torchinductor_USER, has a
    name that others can take first."""
    return environment(
        TMPDIR=str(folder),
        TORCHINDUCTOR_CACHE_DIR=str(folder / "inductor"),
        TRITON_CACHE_DIR=str(folder / "triton"),
    )


def _compile(graph, arguments, path):
    from torch._inductor import aoti_compile_and_package

    graph = graph(kernels.decompositions())
    kernels.write_clones(graph)
    with torch.no_grad(), warnings.catch_warnings():
        # What torch's compiler says to its own authors.
        warnings.simplefilter("ignore")
        exported = torch.export.export(graph, tuple(arguments))
        aoti_compile_and_package(exported, package_path=str(path), inductor_configs=kernels.options())


def _compile_for_cuda(graph, arguments, path):
    from torch._inductor import standalone_compile

    graph = graph({})
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        artifact = standalone_compile(graph, list(arguments), dynamic_shapes="from_example_inputs")
    artifact.save(path=str(path), format="binary")


def _traced(one_step, groups, task, inputs, arguments, decompositions):
    """The task, of so many inputs, as a graph of operations on tensors alone.

    Through autograd, which torch.export does not see through; on shapes alone. The attention's scale is
    a tensor, so that parameterizations share the program.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    twin = dataclasses.replace(one_step, model=copy.deepcopy(one_step.model))
    count = len(all_tensors(groups))

    def on_tensors(*tensors):
        given = iter(tensors)
        state = list(itertools.islice(given, count))
        own = list(itertools.islice(given, inputs))
        twin.constants = {name: next(given) for name in one_step.constants}
        scale = next(given)
        for block in twin.model.blocks:
            block.attention.scale = scale
        return [task(twin, weights.with_tensors(groups, state), *own)]

    return make_fx(on_tensors, decompositions, tracing_mode="fake")(*arguments)


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


def _load_for_cuda(package, folder):
    from torch._inductor import CompiledArtifact

    _work_in(folder)
    with scratch(folder) as unpacked:
        path = unpacked / "program.pt2"
        path.write_bytes(package)
        artifact = CompiledArtifact.load(path=str(path), format="binary")
    return lambda tensors: artifact(*tensors)
