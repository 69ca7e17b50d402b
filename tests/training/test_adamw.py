"""AdamW: each member takes the steps that torch's own takes."""

import copy
import itertools

import pytest
import torch
from torch import nn

from hpt.runs.train_config import TrainConfig, lr_factor
from hpt.training import adamw
from hpt.training.optimizers import step_scalars
from hpt.training.weights import all_tensors, member_groups, named_weights, with_tensors

CPU = torch.device("cpu")
C = TrainConfig(steps=20, warmup_steps=20, beta1=0.9, beta2=0.95, eps=1e-6)


def net(seed):
    torch.manual_seed(seed)
    return nn.ModuleDict({"a": nn.Linear(3, 5), "b": nn.Linear(5, 2, bias=False)})


def rates(model, lr, decay):
    """One rate for the matrix of "a", another for all else."""
    matrix = model["a"].weight
    rest = [p for p in model.parameters() if p is not matrix]
    return [
        {"name": "hidden", "params": [matrix], "lr": lr, "weight_decay": decay},
        {"name": "readout", "params": rest, "lr": 2 * lr, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("update", "count"), [(adamw.update, 2), (adamw.update_in_one_pass, 1)], ids=["stacked", "alone"]
)
def test_each_member_takes_the_steps_of_torchs_adamw(update, count):
    g = torch.Generator().manual_seed(0)
    members = [net(0), net(1)][:count]
    own = [rates(member, *peak) for member, peak in zip(members, [(3e-4, 0.3), (1e-2, 0.0)], strict=False)]
    groups = member_groups(members, own, C.eps, 2, CPU)
    scalars = step_scalars(C, [group.role for group in groups], 20, 1.0)
    start = copy.deepcopy(named_weights(groups))
    alone = [torch.optim.AdamW(one, betas=(C.beta1, C.beta2), eps=C.eps) for one in own]
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in alone]
    for step in range(20):
        for group, numbers in zip(groups, scalars[step], strict=True):
            # As a batched matmul's transposed output lies in memory.
            grads = [
                torch.randn(x.mT.shape if x.ndim > 2 else x.shape, generator=g) for x in group.parameters
            ]
            grads = [(x.mT if x.ndim > 2 else x) * 1e-4**step for x in grads]
            update(group, grads, C, numbers)
            for (i, model), (name, grad) in itertools.product(
                enumerate(members), zip(group.shapes, grads, strict=True)
            ):
                model.get_parameter(name).grad = grad[i].clone()
        for i, optimizer in enumerate(alone):
            for group, peak in zip(optimizer.param_groups, peaks[i], strict=True):
                group["lr"] = peak * lr_factor(C, step, 20)
            optimizer.step()
    for name, weights in named_weights(groups).items():
        assert (weights - start[name]).abs().min() > 1e-5
        for i, model in enumerate(members):
            torch.testing.assert_close(weights[i], model.get_parameter(name), rtol=2e-6, atol=1e-8)


def test_no_members_tensor_is_anothers():
    members = [net(0)] * 2
    groups = member_groups(members, [rates(members[0], 0.1, 0.1)] * 2, 1e-8, 2, CPU)
    scalars = step_scalars(C, [group.role for group in groups], 1, 1.0)[0]
    copies = with_tensors(groups, [x.clone() for x in all_tensors(groups)])
    for group, numbers in zip(groups, scalars, strict=True):
        adamw.update(group, [torch.ones_like(x) for x in group.parameters], C, numbers)
    start = dict(members[0].named_parameters())
    for name, weights in named_weights(copies).items():
        assert torch.equal(weights[0], start[name]) and torch.equal(weights[1], start[name])
