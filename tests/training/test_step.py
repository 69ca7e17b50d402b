"""The step: what a CUDA graph can hold, clipping, and what its operations are on a GPU."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hpt.data.source import load
from hpt.training import step as module
from hpt.training.loop import Training
from hpt.training.optimizers import OPTIMIZERS

CPU = torch.device("cpu")


@pytest.fixture
def training(tiny_run):
    """Two members, in bf16, clipped, in micro-batches."""
    values = {"clip": 1.0, "micro_batch_size": 2, "precision": "bf16"}
    run = dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, **values))
    return Training([run, dataclasses.replace(run, seed=1)], load(run.data), CPU)


class NoValues(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: operations whose outcome Python waits for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        assert name not in (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::masked_select",
            "aten::equal",
        ), name
        return function(*args, **(kwargs or {}))


def test_a_step_asks_for_no_value(training):
    step = dataclasses.replace(training.one_step, update=OPTIMIZERS["adamw"].update)
    batch = training.read(0)
    with NoValues():
        losses_R = step(training.groups, *batch, training.scalars[0])
        with pytest.raises(AssertionError, match="local_scalar"):
            losses_R[0].item()


@pytest.mark.parametrize("members", [1, 2])
def test_each_member_is_clipped_as_torch_clips_one(members):
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(members, *shape, generator=g) for shape in ((3, 4), (5,), ())]
    expected = [[torch.nn.Parameter(grad[i].clone()) for grad in grads] for i in range(members)]
    for own in expected:
        for parameter in own:
            parameter.grad = parameter.data.clone()
        torch.nn.utils.clip_grad_norm_(own, 2.5)
    module.clip(grads, 2.5)
    for i, own in enumerate(expected):
        for grad, parameter in zip(grads, own, strict=True):
            torch.testing.assert_close(grad[i], parameter.grad)


class Called(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("members", [1, 3])
def test_embeddings_are_one_lookup_and_matmuls_batched_over_members(tiny_run, members):
    """As the operations of a forward and backward pass tell, on tensors without content."""
    runs = [dataclasses.replace(tiny_run, seed=i) for i in range(members)]
    with FakeTensorMode():
        run = Training(runs, None, CPU)
        with Called() as called:
            grads, losses_R = run.one_step.gradients(run.groups, *run.first_inputs()[:2])
    assert losses_R.shape == (members,)
    assert all(grad.shape[0] == members for grad in grads.values())
    assert called.names.count("aten::embedding") == called.names.count("aten::embedding_dense_backward") == 1
    # Queries, keys and values together, out, up, down; readout; each with two of the backward pass. Two of
    # attention, each with two.
    matmuls = (4 * run.config.model.depth + 1) * 3
    attentions = 2 * 3 * run.config.model.depth
    counts = called.names.count("aten::bmm"), called.names.count("aten::mm")
    assert counts == ((matmuls + attentions, 0) if members > 1 else (attentions, matmuls))


def test_fused_attention_takes_members_as_a_larger_batch():
    """Its rule for vmap, which torch has for what CUDA runs."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention
    q = torch.empty(3, 2, 4, 16, 8, dtype=torch.bfloat16, device="meta")
    with Called() as called:
        y = torch.func.vmap(lambda q: attention(q, q, q, is_causal=True)[0])(q)
    assert y.shape == q.shape and called.names.count("aten::_scaled_dot_product_flash_attention") == 1
