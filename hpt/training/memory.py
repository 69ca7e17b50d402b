"""Memory that a training step needs, counted without computing it."""

from __future__ import annotations

import functools
import sys
import weakref

import psutil
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpt.cache_folder import code_of, kept
from hpt.config import to_dict
from hpt.device import pick_precision
from hpt.model import readout_loss as cross_entropy
from hpt.model import transformer as model
from hpt.model.transformer import ModelConfig, Transformer
from hpt.runs.run_config import RunConfig
from hpt.training import loop as training

#: AdamW's two moments, fp32.
OPTIMIZER_BYTES_PER_PARAMETER = 8


def step_bytes(config: RunConfig, place: torch.device) -> int:
    """Bytes of tensors at the fullest moment of a training step: weights, gradients, AdamW's state,
    activations.

    Counted once for a shape and kept in ``$HPT_CACHE_DIR/memory``. The step's forward and backward
    pass run on tensors that have shapes and no content, so that neither memory nor time is spent;
    each tensor is counted from its making to its end. What a kernel takes for itself is not seen.
    """
    dtype = pick_precision(config.train.precision, place)[0]
    sequences = min(
        config.train.micro_batch_size or config.train.batch_size, config.train.batch_size
    )
    depends_on = [
        to_dict(config.model),
        sequences,
        str(dtype),
        place.type,
        torch.__version__,
        code_of(cross_entropy, model, training, sys.modules[__name__]),
    ]
    return kept("memory", depends_on, lambda: _count(config.model, sequences, dtype, place))


def _count(c: ModelConfig, sequences: int, dtype: torch.dtype, place: torch.device) -> int:
    with FakeTensorMode(), _LiveBytes() as counted, torch.device(place):
        ids_BxT = torch.zeros(sequences, c.context, dtype=torch.int64)
        training.backward(model.Transformer(c), ids_BxT, ids_BxT, dtype, None)
    return counted.most + OPTIMIZER_BYTES_PER_PARAMETER * model.parameter_count(c)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside that are still alive, and the most there were at
    once."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(
                        storage, self._end, storage._cdata, storage.nbytes()
                    ).atexit = False
        return made

    def _end(self, storage: int, size: int) -> None:
        self._alive.discard(storage)
        self.now -= size


#: What share of the free memory runs may take; the rest is for what the estimate does not see.
SHARE = 0.8


#: Copies of the weights in fp32: weights, gradients, AdamW's two moments, and what their update works with.
COPIES = 8


def members_that_fit(config: RunConfig, place: torch.device, workers: int = 1) -> int:
    """How many runs of this shape one process trains at once, at least 1.

    Parameters
    ----------
    config: any one of the runs; only its shapes matter.
    place: the device.
    workers: how many processes share the device's memory.
    """
    return max(1, int(SHARE * available_bytes(place) / workers / member_bytes(config)))


def available_bytes(place: torch.device) -> int:
    """Free memory of the GPU, what torch keeps for itself included, or of the machine."""
    if place.type == "cuda":
        kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return torch.cuda.mem_get_info(place)[0] + kept
    return psutil.virtual_memory().available


def member_bytes(config: RunConfig) -> int:
    """Estimated peak memory of one run, counted without running it.

    Everything is counted in fp32. A stack of 12 on a CPU took 1.0 times the estimate a member in
    fp32, 0.9 in bf16.
    """
    c = config.train
    parameters, saved, largest = _sizes(
        config.model, min(c.micro_batch_size or c.batch_size, c.batch_size)
    )
    # The backward pass holds the largest tensor's gradient twice: what comes in and what goes out.
    return 4 * COPIES * parameters + saved + 2 * largest


@functools.lru_cache(maxsize=256)
def _sizes(c: ModelConfig, sequences: int) -> tuple[int, int, int]:
    """Parameters; bytes that autograd keeps for the backward pass; bytes of the largest tensor
    among them."""
    kept: dict[int, torch.UntypedStorage] = {}  # several operations may keep one tensor

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.device("meta"):  # shapes alone
        model = Transformer(c)
        ids_BxT = torch.empty(sequences, c.context, dtype=torch.int64)
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        ):
            loss = F.cross_entropy(model(ids_BxT).flatten(0, 1), ids_BxT.flatten())
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    sizes = [storage.nbytes() for key, storage in kept.items() if key not in weights]
    del loss  # until here it keeps the storages, and with them their addresses, apart
    return sum(p.numel() for p in model.parameters()), sum(sizes), max(sizes)
