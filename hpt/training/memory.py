"""Memory that a training step needs, counted without computing it."""

from __future__ import annotations

import sys
import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hpt.cache_folder import code_of, kept
from hpt.config import to_dict
from hpt.device import pick_precision
from hpt.model import readout_loss as cross_entropy
from hpt.model import transformer as model
from hpt.model.transformer import ModelConfig
from hpt.runs.run_config import RunConfig
from hpt.training import loop as training

#: AdamW's two moments, fp32.
OPTIMIZER_BYTES_PER_PARAMETER = 8


def step_bytes(config: RunConfig, place: torch.device) -> int:
    """Bytes of tensors at the fullest moment of a training step: weights, gradients, AdamW's state, activations.

    Counted once for a shape and kept in ``$HPT_CACHE_DIR/memory``. The step's forward and backward pass run on tensors
    that have shapes and no content, so that neither memory nor time is spent; each tensor is counted from its making
    to its end. What a kernel takes for itself is not seen.
    """
    dtype = pick_precision(config.train.precision, place)[0]
    sequences = min(config.train.micro_batch_size or config.train.batch_size, config.train.batch_size)
    depends_on = [to_dict(config.model), sequences, str(dtype), place.type, torch.__version__,
                  code_of(cross_entropy, model, training, sys.modules[__name__])]
    return kept("memory", depends_on, lambda: _count(config.model, sequences, dtype, place))


def _count(c: ModelConfig, sequences: int, dtype: torch.dtype, place: torch.device) -> int:
    with FakeTensorMode(), _LiveBytes() as counted, torch.device(place):
        ids_BxT = torch.zeros(sequences, c.context, dtype=torch.int64)
        training.backward(model.Transformer(c), ids_BxT, ids_BxT, dtype, None)
    return counted.most + OPTIMIZER_BYTES_PER_PARAMETER * model.parameter_count(c)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made inside that are still alive, and the most there were at once."""

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
                    weakref.finalize(storage, self._end, storage._cdata, storage.nbytes()).atexit = False
        return made

    def _end(self, storage: int, size: int) -> None:
        self._alive.discard(storage)
        self.now -= size
