"""What an error prints as a call, taken at its word."""

import pytest
import torch
from torch import nn

from hpt.errors import RoleError
from hpt.parameterization.roles import find_roles


class Odd(nn.Module):
    """Raw parameters whose axes no layer tells."""

    def __init__(self, n):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(9, n))
        self.mix = nn.Parameter(torch.zeros(n, 2 * n))
        self.heads = nn.Parameter(torch.zeros(4, n, n))
        self.constant = nn.Linear(3, 5)
        self.gain = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(n, 9)


SAID = {"place": "embedding", "mix": ("hidden", "in out"), "heads": ("hidden", "heads out in")}


def printed_roles(error):
    """The argument ``roles`` of the call in an error's message."""
    return eval("{" + str(error).split("roles={")[1].split("}")[0] + "}")


def settled(model, base, mapping=None):
    """Roles by the call that the refusal prints."""
    with pytest.raises(RoleError) as error:
        find_roles(model, base, mapping)
    return find_roles(model, base, {**(mapping or {}), **printed_roles(error.value)})
