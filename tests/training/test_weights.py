"""Groups of equal rates: who shares one, what each holds, and their views."""

import pytest
import torch
from torch import nn

from hpt.training.weights import all_tensors, flat, member_groups, named_weights, with_tensors

CPU = torch.device("cpu")


def net(seed):
    torch.manual_seed(seed)
    return nn.ModuleDict({"a": nn.Linear(3, 5), "b": nn.Linear(5, 2, bias=False)})


def rates(model, lr, decay=0.0, name="hidden.1"):
    a, b = model["a"].parameters(), model["b"].parameters()
    return [
        {"name": "hidden", "params": list(a), "lr": lr, "weight_decay": decay, "eps": 1e-3},
        {"name": name, "params": list(b), "lr": lr, "weight_decay": decay, "eps": 1e-3},
    ]


def test_equal_roles_and_rates_share_a_group():
    members = [net(0), net(1)]

    def groups_of(**last):
        own = [rates(members[0], 0.1), rates(members[1], 0.2, **last)]
        return member_groups(members, own, 1e-8, 2, CPU)

    (group,) = groups_of()
    assert group.role == "hidden" and group.eps == 1e-3
    assert group.lr.flatten().tolist() == pytest.approx([0.1, 0.2])
    own = [rates(members[0], 0.1), rates(members[1], 0.2)]
    own[1][1]["weight_decay"] = 0.5
    assert len(member_groups(members, own, 1e-8, 2, CPU)) == 2
    by_role = [rates(model, 0.1, name="readout") for model in members]
    assert [group.role for group in member_groups(members, by_role, 1e-8, 2, CPU)] == ["hidden", "readout"]


def test_views_are_the_parameters_of_each_member():
    members = [net(0), net(1)]
    groups = member_groups(members, [rates(m, 0.1) for m in members], 1e-8, 1, CPU)
    for name, weights in named_weights(groups).items():
        for i, model in enumerate(members):
            assert torch.equal(weights[i], model.get_parameter(name))
    (group,) = groups
    weights, moments = group.of_one
    weights[0].zero_()
    moments[1].fill_(7)
    assert not named_weights(groups)["a.weight"][0].any() and members[0]["a"].weight.all()
    assert group.moments[0].sum() == 7 * moments[1].numel()
    assert torch.equal(flat(group.parameters), group.weight)


def test_other_tensors_take_the_place_of_all():
    members = [net(0), net(1), net(2)]
    groups = member_groups(members, [rates(m, 2.0**-i) for i, m in enumerate(members)], 1e-8, 2, CPU)
    kept = with_tensors(groups, [x[torch.tensor([True, False, True])] for x in all_tensors(groups)])
    assert kept[0].lr.flatten().tolist() == [1, 1 / 4] and len(kept[0].parameters[0]) == 2
    for name, weights in named_weights(kept).items():
        assert torch.equal(weights, named_weights(groups)[name][[0, 2]])
