"""One call: groups, start and first steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hpt
from hpt.errors import ConfigError

IDS = torch.randint(32, (4, 9), generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """With two traps: a frozen table of positions, and a branch that starts at zero."""

    def __init__(self, n):
        super().__init__()
        self.words = nn.Embedding(32, n)
        self.places = nn.Embedding(8, n).requires_grad_(False)
        self.branch = nn.Linear(n, n, bias=False)
        nn.init.zeros_(self.branch.weight)
        self.out = nn.Linear(n, 32, bias=False)

    def forward(self, ids):
        x = self.words(ids) + self.places.weight
        return self.out(x + self.branch(x))


def loss(model):
    return F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten())


def test_the_audit_names_the_traps_and_checks_the_coordinates():
    a = hpt.audit(Net, [16, 32, 64], "mup-table3", loss=loss, steps=2, seeds=1)
    text = "\n".join(a.verdict)
    assert a.verdict[0] == "Groups: 2 findings."
    assert (
        "frozen" in text
        and "places.weight" in text
        and "at zero from the start" in text
        and "branch.weight" in text
    )
    assert "Flat" in text
    assert a.to_frame() is a.description.frame and set(a.start.columns) == {16, 32, 64}
    assert all(part in str(a) and part in a._repr_html_() for part in ("places.weight", "coordinate check"))


def test_a_model_without_a_loss_of_its_own_needs_one():
    with pytest.raises(ConfigError, match="loss=lambda"):
        hpt.audit(Net, [16, 32, 64], "mup-table3")
