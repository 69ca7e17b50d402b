"""The coordinate check finds what it should, in models where the answer is known."""

import matplotlib
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer

matplotlib.use("Agg")
IDS = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(0))
WIDTHS = [32, 64, 128, 256]


def make(width):
    return Transformer(ModelConfig(width=width, depth=2, d_head=8, vocab_size=64, context=16))


def loss(model):
    return F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten())


def check(rule, lr, **options):
    return hpt.coord_check(make, WIDTHS, rule, loss=loss, lr=lr, seeds=2, **options)


def slope(c, role, quantity="update"):
    return c.slopes.set_index(["role", "quantity"])["slope"][role, quantity]


@pytest.fixture(scope="module")
def falling():
    """SP with the learning rate that its hidden matrices need, c/n."""
    return check("SP", lambda n: 2**-7 * 32 / n)


def test_in_sp_the_embedding_hardly_moves(falling):
    assert slope(falling, "embedding") == pytest.approx(-1, abs=0.1)
    assert abs(slope(falling, "hidden")) < 0.4
    assert any(
        v.startswith("embedding") and "learning rate of embedding (η), too small" in v
        for v in falling.verdict
    )


def test_activations_alone_would_not_have_told(falling):
    """The embedding's activation is flat while its change dies: why changes are measured."""
    trend = falling.slopes.set_index(["role", "quantity"])["trend"]
    assert trend["embedding", "activation"] == "flat" and trend["embedding", "change"] == "shrinks"


def test_a_constant_rate_blows_hidden_updates_up():
    c = check("SP", 2.0**-9)
    assert slope(c, "hidden") > 0.5 and abs(slope(c, "embedding")) < 0.15
    assert any(v.startswith(("hidden", "readout")) and "too large" in v for v in c.verdict)


@pytest.mark.parametrize(("rule", "lr"), [("mup-table3", 2.0**-7), ("μP", lambda n: 2**-7 * 32 / n)])
def test_mup_keeps_updates(rule, lr):
    c = check(rule, lr)
    assert all(abs(slope(c, role)) < 0.3 for role in ("embedding", "hidden", "readout", "vector"))
    assert c.verdict[0].startswith("Flat")


def test_intervals_hold_their_slopes_and_text_says_what_is_not_seen(falling):
    f = falling.layers
    assert ((f["low"] <= f["slope"]) & (f["slope"] <= f["high"])).all()
    assert {"embedding", "hidden", "readout", "vector"} <= set(f["role"])
    assert "cannot see weight decay" in str(falling) and "cannot see weight decay" in falling._repr_html_()
    figure = hpt.plot_coord_check(falling)
    assert len(figure.axes) == 3
    # A label at each role's line, in the panels that have it.
    labels = {text.get_text().split()[0] for axes in figure.axes for text in axes.texts}
    assert {"embedding", "hidden", "readout", "vector"} <= labels


def test_update_is_delta_w_times_x():
    """One layer, one step of SGD: ΔW·x = −lr·g·xᵀx, by hand."""
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))

    def net(n):
        return nn.Sequential(nn.Linear(3, n, bias=False), nn.Linear(n, 2, bias=False))

    c = hpt.coord_check(
        net,
        [4, 8, 16],
        "SP",
        loss=lambda m: m(x).square().sum(),
        lr=0.01,
        steps=1,
        seeds=1,
        init=False,
        make_optimizer=torch.optim.SGD,
    )
    torch.manual_seed(0)
    model = net(8)
    before = model[0].weight.detach().clone()
    model(x).square().sum().backward()
    expected = (x @ (-0.01 * model[0].weight.grad).T).square().mean().sqrt().item()
    row = c.table.query("width == 8 and step == 1 and layer == '0' and quantity == 'update'")
    assert row["rms"].item() == pytest.approx(expected, rel=1e-5) and before.shape == (8, 3)


def test_a_foreign_model_with_an_unscaled_readout():
    """A broken rule is named: a readout that learns too fast."""

    def net(n):
        return nn.ModuleDict({"words": nn.Embedding(64, n), "body": nn.Linear(n, n), "out": nn.Linear(n, 64)})

    def net_loss(m):
        return F.cross_entropy(m["out"](torch.tanh(m["body"](m["words"](IDS[0, :-1])))), IDS[0, 1:])

    c = hpt.coord_check(net, WIDTHS, "SP", loss=net_loss, lr=1e-3, seeds=2)
    assert slope(c, "readout") > 0.5
    assert any(v.startswith("readout") and "too large" in v for v in c.verdict)


def test_too_few_widths_are_refused():
    with pytest.raises(ConfigError, match="three widths"):
        hpt.coord_check(make, [32, 64], "SP", loss=loss, lr=0.1)


def test_layers_are_seen_that_our_model_multiplies_by_without_a_call():
    """Query, key and value, and the readout of a loss with targets: each with ΔW·x of its own."""

    def loss_in_model(model):
        return model(IDS[:, :-1], IDS[:, 1:])

    tables = [
        hpt.coord_check(make, [16, 32, 64], "SP", loss=f, lr=1e-3, steps=1, seeds=1).table
        for f in (loss, loss_in_model)
    ]
    keys = ["width", "step", "layer", "quantity"]
    outside, inside = (t.set_index(keys)["rms"] for t in tables)
    assert list(outside.index) == list(inside.index)
    assert outside.to_numpy() == pytest.approx(inside.to_numpy(), rel=1e-3, abs=1e-9)
    last = tables[1].query("width == 64 and step == 1")
    for layer in ("blocks.0.attention.query", "blocks.1.attention.value", "readout"):
        seen = last[last["layer"] == layer]
        assert {*seen["quantity"]} == {"activation", "change", "update"}


def test_the_sizes_of_a_projection_are_those_of_its_weight_and_input():
    torch.manual_seed(0)
    c = hpt.coord_check(make, [16, 32, 64], "SP", loss=loss, lr=1e-3, steps=1, seeds=1, init=False)
    torch.manual_seed(0)
    model = make(32)
    x = model.token_embedding(IDS[:, :-1]) + model.position_embedding.weight
    key = model.blocks[0].attention.key(model.blocks[0].norm_attention(x))
    row = c.table.query(
        "width == 32 and step == 0 and layer == 'blocks.0.attention.key' and quantity == 'activation'"
    )
    assert row["rms"].item() == pytest.approx(key.square().mean().sqrt().item(), rel=1e-5)


def test_models_are_left_without_hooks():
    made = []

    def make_and_keep(width):
        made.append(make(width))
        return made[-1]

    hpt.coord_check(make_and_keep, [16, 32, 64], "SP", loss=loss, lr=1e-3, steps=1, seeds=1)
    modules = [module for model in made for module in model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_weights_are_drawn_on_the_device_that_they_are_on(monkeypatch):
    devices = []

    class Generator(torch.Generator):
        def __new__(cls, device="none"):
            devices.append(device)
            return super().__new__(cls, device)

    monkeypatch.setattr(torch, "Generator", Generator)
    hpt.coord_check(make, [16, 32, 64], "SP", loss=loss, lr=1e-3, steps=1, seeds=1)
    assert devices == [torch.device("cpu")] * 3


class Plain(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.words, self.body = nn.Embedding(64, n), nn.Linear(n, n, bias=False)
        self.out = nn.Linear(n, 64, bias=False)

    def forward(self, ids):
        return self.out(self.body(self.words(ids)))


class Scheduled(Plain):
    def __init__(self, n):
        super().__init__(n)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]


class Checkpointed(Plain):
    """Its body runs twice, the second time in the backward pass."""

    def forward(self, ids):
        return self.out(checkpoint(self.body, self.words(ids), use_reentrant=False))


def compiled_block(n):
    model = Plain(n)
    model.body = torch.compile(model.body, backend="eager")
    return model


class Attended(Plain):
    """Its body is torch's attention, which uses its matrices without calling their layers."""

    def __init__(self, n):
        super().__init__(n)
        self.body = nn.MultiheadAttention(n, n // 4, bias=False, batch_first=True)

    def forward(self, ids):
        x = self.words(ids)
        return self.out(x + self.body(x, x, x, need_weights=False)[0])


def in_bf16(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return loss(model)


def small_check(make, loss=loss, **options):
    return hpt.coord_check(
        make, [8, 16, 32], "mup-table3", loss=loss, lr=1e-3, steps=1, seeds=1, **options
    ).table


@pytest.mark.parametrize(
    "make",
    [
        lambda n: Plain(n).to("cpu"),
        Scheduled,
        lambda n: torch.compile(Plain(n), backend="eager"),
        compiled_block,
        Checkpointed,
    ],
    ids=["moved", "item", "compiled", "block", "checkpointed"],
)
def test_models_as_they_are_in_scripts(make):
    assert small_check(make)["rms"].to_list() == small_check(Plain)["rms"].to_list()


def test_matrices_of_torchs_attention_are_measured():
    """Each by the most that its change can do to an input of size 1."""
    last = small_check(Attended).query("step == 1 and quantity == 'update' and width == 16")
    sizes = last.set_index("layer")["rms"]
    torch.manual_seed(0)
    model = Attended(16)
    hpt.init_weights(
        model, "mup-table3", base_model=Attended(8), warn=False, generator=torch.Generator().manual_seed(0)
    )
    groups = hpt.param_groups(model, "mup-table3", lr=1e-3, base_model=Attended(8), warn=False)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss(model).backward()
    optimizer.step()
    for layer, name, fan_out in (("body", "in_proj_weight", 48), ("body.out_proj", "out_proj.weight", 16)):
        delta = model.body.get_parameter(name).detach() - before[f"body.{name}"]
        most = torch.linalg.matrix_norm(delta, ord=2) * (16 / fan_out) ** 0.5
        assert sizes[layer] == pytest.approx(most.item(), rel=1e-3)


def test_under_autocast_the_sizes_are_those_of_fp32():
    tables = [small_check(Plain, each) for each in (loss, in_bf16)]
    plain, bf16 = (table.query("quantity == 'activation'")["rms"].to_numpy() for table in tables)
    assert len(tables[0]) == len(tables[1]) and bf16 == pytest.approx(plain, rel=0.05)


def test_what_cannot_be_judged_is_refused():
    def zero_out(n):
        model = Plain(n)
        nn.init.zeros_(model.out.weight)
        return model

    with pytest.raises(ConfigError, match="both have"):
        small_check(lambda n: Plain(16 if n < 32 else 64))
    with pytest.raises(ConfigError, match="steps=4"):
        small_check(zero_out)
