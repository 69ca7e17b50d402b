"""Against the packages of others: mup 1.0.0 (Table 8) and unit-scaling (u-μP)."""

import pytest
import torch
from torch import nn

import hpt
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.groups import assign

mup, uu = pytest.importorskip("mup"), pytest.importorskip("unit_scaling")

BASE = 16


class MLP(nn.Module):
    """Input, two hidden layers, readout, with biases; the readout class is given."""

    def __init__(self, width, readout=nn.Linear):
        super().__init__()
        self.first, self.second = nn.Linear(10, width), nn.Linear(width, 2 * width)
        self.third, self.readout = nn.Linear(2 * width, width), readout(width, 7)

    def forward(self, x):
        x = self.second(torch.tanh(self.first(x)))
        return self.readout(torch.tanh(self.third(torch.tanh(x))))


def gpt(width, readout=nn.Linear):
    torch.manual_seed(0)  # vectors keep what they are built with
    c = ModelConfig(width=width, depth=2, d_head=8, vocab_size=30, context=8, bias=True)
    model = Transformer(c)
    model.readout = readout(width, 30, bias=False)
    return model


@pytest.fixture(params=[MLP, gpt], ids=["MLP", "GPT"])
def make(request):
    return request.param


def pair(make, m):
    """The same model for mup (its readout class and base shapes) and for hpt; and their base and
    wider copies."""
    base = make(BASE)
    torch.manual_seed(0)
    theirs = mup.set_base_shapes(
        make(BASE * m, mup.MuReadout), make(BASE, mup.MuReadout), delta=make(2 * BASE, mup.MuReadout)
    )
    torch.manual_seed(0)
    return theirs, make(BASE * m), base


def options(make, m, base):
    if make is gpt:
        return {"base_width": BASE}
    said = {"first.weight": "embedding", "readout.weight": "readout", "*.weight": "hidden"}
    return {"base_model": base, "roles": said if m == 1 else None}  # at the base width shapes tell no roles


def by_name(groups, model):
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def split(model):
    """Groups as mup's users give them: weight decay on matrices alone, as hpt does."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


@pytest.mark.parametrize("m", [1, 2, 4, 8])
@pytest.mark.parametrize(("optimizer", "theirs_of"), [("adamw", mup.MuAdamW), ("sgd", mup.MuSGD)])
def test_groups_and_decay_are_mups(make, m, optimizer, theirs_of):
    theirs, ours, base = pair(make, m)
    expected = by_name(theirs_of(split(theirs), lr=0.01).param_groups, theirs)
    found = by_name(
        hpt.param_groups(
            ours,
            "mup-table8",
            lr=0.01,
            weight_decay=0.1,
            optimizer=optimizer,
            forward="in_model",
            **options(make, m, base),
        ),
        ours,
    )
    if optimizer == "sgd":  # mup keeps lr·λ there too, up to where no decay is
        expected = {n: (lr, 0.1 * 0.01 / lr if d else 0.0) for n, (lr, d) in expected.items()}
    assert set(found) == set(expected)
    for name, rates in expected.items():
        assert found[name] == pytest.approx(rates), name


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_init_is_mups(make, m):
    """mup starts from SP's init and multiplies the readout's by √m."""
    _, ours, base = pair(make, m)
    sp, given = make(BASE * m, mup.MuReadout), options(make, m, base)
    hpt.init_weights(sp, "SP", generator=torch.Generator().manual_seed(5), **given)
    theirs = mup.set_base_shapes(sp, make(BASE, mup.MuReadout), delta=make(2 * BASE, mup.MuReadout))
    hpt.init_weights(
        ours, "mup-table8", generator=torch.Generator().manual_seed(5), forward="in_model", **given
    )
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if a.ndim > 1:
            torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_hidden_std_is_that_of_mups_initializers(make, m):
    theirs, ours, base = pair(make, m)
    for name, a in assign(ours, "mup-table8", forward="in_model", **options(make, m, base)).items():
        if a.role.role != "hidden":
            continue
        weight = theirs.get_parameter(name)
        torch.manual_seed(1)
        mup.init.normal_(weight, std=(a.role.fan_in / m) ** -0.5)
        drawn = weight.detach().clone()
        torch.manual_seed(1)
        torch.testing.assert_close(drawn, torch.randn(weight.shape) * a.scales.init_std, msg=name)


def train(model, groups, steps=5):
    optimizer = torch.optim.AdamW(groups)
    g = torch.Generator().manual_seed(2)
    if isinstance(model, Transformer):
        x, y = torch.randint(30, (3, 8), generator=g), torch.randint(30, (24,), generator=g)
    else:
        x, y = torch.randn(6, 10, generator=g), torch.randint(7, (6,), generator=g)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x).flatten(0, -2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_training_is_mups(make, m):
    """From the same weights, mup's model with its readout class and optimizer, and a plain one with
    our groups."""
    theirs, ours, base = pair(make, m)
    given = options(make, m, base)
    hpt.init_weights(
        theirs, "mup-table8", generator=torch.Generator().manual_seed(7), forward="in_model", **given
    )
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        ours.readout.weight /= m  # the absorbed multiplier
    expected = train(theirs, mup.MuAdamW(split(theirs), lr=0.01).param_groups)
    found = train(
        ours, hpt.param_groups(ours, "mup-table8", lr=0.01, weight_decay=0.1, forward="absorb", **given)
    )
    assert expected[-1] < expected[0] and found == pytest.approx(expected, rel=1e-4)


def test_at_m_1_it_is_sp_bit_for_bit():
    runs = {}
    for rule in ("SP", "mup-table8"):
        model = gpt(BASE)
        hpt.init_weights(model, rule, base_width=BASE, generator=torch.Generator().manual_seed(3))
        groups = hpt.param_groups(model, rule, lr=0.01, weight_decay=0.1, base_width=BASE)
        runs[rule] = train(model, groups)
    theirs = mup.set_base_shapes(
        gpt(BASE, mup.MuReadout), gpt(BASE, mup.MuReadout), delta=gpt(32, mup.MuReadout)
    )
    hpt.init_weights(theirs, "SP", generator=torch.Generator().manual_seed(3))
    assert runs["SP"] == runs["mup-table8"] == train(theirs, mup.MuAdamW(split(theirs), lr=0.01).param_groups)


@pytest.mark.parametrize("width", [32, 64, 256])
def test_u_mup_rates_and_std_are_unit_scalings(width):
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.embedding, self.up = uu.Embedding(40, n), uu.Linear(n, 4 * n, bias=True)
            self.down = uu.Linear(4 * n, n)
            self.norm, self.readout = (uu.LayerNorm(n, elementwise_affine=True), uu.LinearReadout(n, 40))

    model = Net(width)
    theirs = {
        id(g["params"][0]): g["lr"]
        for g in uu.optim.scaled_parameters(model.parameters(), uu.optim.lr_scale_func_adam, lr=0.5)
    }
    names = {n: theirs[id(p)] for n, p in model.named_parameters()}
    ours = {
        n: lr
        for n, (lr, _) in by_name(
            hpt.param_groups(model, "u-mup", lr=0.5, base_model=Net(16), forward="in_model"), model
        ).items()
    }
    assert ours == pytest.approx(names)
    for name, a in assign(model, "u-mup", base_model=Net(16), forward="in_model").items():
        if a.role.role not in ("vector",):
            assert model.get_parameter(name).std().item() == pytest.approx(a.scales.init_std, rel=0.1), name
    x = torch.randn(200, width)
    torch.testing.assert_close(model.up(x), nn.functional.linear(x, model.up.weight) * width**-0.5)
    torch.testing.assert_close(model.readout(x), nn.functional.linear(x, model.readout.weight) / width)
