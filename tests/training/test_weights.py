"""Weights of several members, flat side by side."""

import torch

from hpt.training.weights import Group, role_of


def test_parameters_are_views_of_each_members_row():
    shapes = {"a": torch.Size([2, 3]), "b": torch.Size([4])}
    weight_RxP = torch.arange(20.0).view(2, 10)
    group = Group("hidden", shapes, 1e-8, weight_RxP, torch.ones(2, 1), torch.zeros(2, 1), [])
    a, b = group.parameters
    assert a.shape == (2, 2, 3) and b[1].tolist() == [16, 17, 18, 19]
    a[0] += 100
    assert weight_RxP[0, :6].tolist() == [100 + i for i in range(6)]
    assert role_of({"name": "hidden.1"}) == "hidden"
