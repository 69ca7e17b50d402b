"""AdamW of a stack: each member takes the steps that torch's own takes."""

import pytest
import torch
from torch import nn

from hpt.runs.train_config import TrainConfig, lr_factor
from hpt.training import adamw
from hpt.training.adamw import StackedAdamW

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
        {"name": "rest", "params": rest, "lr": 2 * lr, "weight_decay": 0.0},
    ]


def test_each_member_takes_the_steps_of_torchs_adamw():
    g = torch.Generator().manual_seed(0)
    members = [net(0), net(1)]
    groups = [rates(members[0], 1e-2, 0.0), rates(members[1], 3e-4, 0.3)]
    stack = StackedAdamW(members, groups, C, 20, CPU)
    start = [weight_RxP.clone() for weight_RxP in stack.weights]
    alone = [adamw.make(own, C, CPU) for own in groups]
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in alone]
    for step in range(20):
        grads = [torch.randn(w.shape, generator=g) * 1e-4**step for w in stack.weights]
        stack.step(grads, stack.scalars_Sx3[step])
        for i, (model, optimizer) in enumerate(zip(members, alone, strict=True)):
            for name, grad in stack.named([grad_RxP[i] for grad_RxP in grads]).items():
                model.get_parameter(name).grad = grad
            for group, peak in zip(optimizer.param_groups, peaks[i], strict=True):
                group["lr"] = peak * lr_factor(C, step, 20)
            optimizer.step()
    for i, model in enumerate(members):
        for name, weight in stack.named([w[i] for w in stack.weights]).items():
            expected = model.get_parameter(name)
            torch.testing.assert_close(weight, expected, rtol=2e-6, atol=1e-8)
    for weight_RxP, start_RxP in zip(stack.weights, start, strict=True):
        assert (weight_RxP - start_RxP).abs().min() > 1e-5


def test_equal_rates_share_a_group_and_roles_part_them():
    members = [net(0)] * 2
    same = [rates(members[0], 0.1, 0.0)] * 2
    for groups in same:
        groups[1]["lr"] = 0.1
    assert len(StackedAdamW(members, same, C, 1, CPU).groups) == 1
    assert len(StackedAdamW(members, same, C, 1, CPU, by_role=True).groups) == 2


def test_who_is_dropped_leaves_the_others_as_they_are():
    members = [net(0), net(1), net(2)]
    groups = [rates(model, 2.0**-i, 0.1) for i, model in enumerate(members)]
    stack = StackedAdamW(members, groups, C, 1, CPU)
    before = stack.state
    stack.keep(torch.tensor([True, False, True]))
    for kept, whole in zip(stack.state, before, strict=True):
        assert torch.equal(kept, whole[[0, 2]])
    *_, lr_Rx1, _ = stack.groups[0].state
    assert lr_Rx1.flatten().tolist() == pytest.approx([1, 1 / 4])


def test_the_size_of_the_state_is_that_of_torchs():
    model = net(0)
    optimizer = adamw.make(rates(model, 0.1, 0.1), C, CPU)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for n, t in state.items() if n != "step"]
    parameters = sum(p.numel() for p in model.parameters())
    assert sum(t.nbytes for t in moments) == adamw.STATE_BYTES * parameters
