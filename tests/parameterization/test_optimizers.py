"""Rules under other optimizers: the rates of their sources, and the same training in two forms."""

import pytest
import torch
import torch.nn.functional as F

import hpt
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.named_rules import NAMED_RULES
from hpt.parameterization.optimizers import RULES_FOR, absorb, for_optimizer

M, N, V = 4.0, 64, 50  # width multiplier, width, vocabulary
ROLES = {"embedding": (V, N), "hidden": (N, 4 * N), "readout": (N, V), "vector": (1, N), "fixed": (3, 3)}
CONFIG = ModelConfig(width=32, depth=2, d_head=8, vocab_size=20, context=8)


def test_table3_is_table8_without_its_multiplier():
    """The abc-symmetry on the numbers: (multiplier, std, LR, λ) → (1, std·a, LR·a, λ/a)."""
    three, eight = hpt.rule("mup-table3"), hpt.rule("mup-table8")
    for role, (fan_in, fan_out) in ROLES.items():
        a, b = (three.scales(role, fan_in, M, fan_out), absorb(eight.scales(role, fan_in, M, fan_out)))
        assert a[:4] == pytest.approx(b[:4]), role
    for optimizer in ("sgd", "adafactor", "lion"):
        for role, (fan_in, fan_out) in ROLES.items():
            a, b = (
                absorb(for_optimizer(r, optimizer, role, fan_in, M, fan_out), optimizer, role)
                for r in (three, eight)
            )
            assert a[:4] == pytest.approx(b[:4]), (optimizer, role)


def curve(
    rule, optimizer="adamw", multiplier=1.0, steps=12, make=None, dtype=torch.float64, rest_lr=None, **options
):
    """Training losses and final weights of our Transformer under a rule."""
    lr = {"adamw": 0.02, "lion": 0.005, "sgd": 0.5, "adafactor": 0.05, "muon": 0.02}[optimizer]
    model = Transformer(CONFIG, readout_multiplier=multiplier).to(dtype)
    arguments = {"base_width": 8, "optimizer": optimizer, **options}
    hpt.init_weights(model, rule, generator=torch.Generator().manual_seed(0), **arguments)
    groups = hpt.param_groups(model, rule, lr=lr, weight_decay=0.1, eps=1e-14, rest_lr=rest_lr, **arguments)
    make = make or (lambda g: [torch.optim.AdamW(g, betas=(0.9, 0.95))])
    optimizers = make(groups)
    ids = torch.randint(20, (4, 9), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        losses.append(loss.item())
    return losses, {n: p.detach() for n, p in model.named_parameters()}


def test_table3_and_table8_train_alike():
    three, _ = curve("mup-table3")
    in_model, _ = curve("mup-table8", multiplier=1 / 4, forward="in_model")
    absorbed, _ = curve("mup-table8", forward="absorb")
    assert three[-1] < three[0] - 0.3
    assert three == pytest.approx(in_model, rel=1e-8)
    assert in_model == pytest.approx(absorbed, rel=1e-10)


def sgd(groups):
    return [torch.optim.SGD([{k: v for k, v in g.items() if k != "eps"} for g in groups], momentum=0.9)]


def test_sgd_forms_train_alike():
    three, _ = curve("mup-table3", "sgd", make=sgd)
    eight, _ = curve("mup-table8", "sgd", multiplier=1 / 4, forward="in_model", make=sgd)
    absorbed, _ = curve("mup-table8", "sgd", forward="absorb", make=sgd)
    assert three[-1] < three[0] and three == pytest.approx(eight, rel=1e-8)
    assert eight == pytest.approx(absorbed, rel=1e-8)


def test_adafactor_forms_train_alike():
    def make(groups):
        return [
            torch.optim.Adafactor(
                [{**{k: v for k, v in g.items() if k != "eps"}, "eps": (None, 1e-12)} for g in groups]
            )
        ]

    three, _ = curve("mup-table3", "adafactor", make=make, dtype=torch.float32)
    absorbed, _ = curve("mup-table8", "adafactor", forward="absorb", make=make, dtype=torch.float32)
    eight, _ = curve(
        "mup-table8", "adafactor", multiplier=1 / 4, forward="in_model", make=make, dtype=torch.float32
    )
    assert three[-1] < three[0] and three == pytest.approx(eight, rel=1e-3)
    assert eight == pytest.approx(absorbed, rel=1e-3)


def test_muon_takes_the_hidden_matrices():
    def make(groups):
        hidden = [g for g in groups if g["name"] == "hidden"]
        assert {g["lr"] for g in hidden} == {0.02} and {g["lr"] for g in groups if g not in hidden} == {
            1e-3,
            1e-3 / 4,
        }
        return [
            torch.optim.Muon([{k: v for k, v in g.items() if k != "eps"} for g in hidden]),
            torch.optim.AdamW([g for g in groups if g["name"] != "hidden"]),
        ]

    losses, _ = curve("mup-table3", "muon", make=make, rest_lr=1e-3, dtype=torch.float32)
    assert losses[-1] < losses[0]


def test_at_base_width_all_rules_that_agree_on_attention_are_one_run():
    """At m = 1 every named rule is SP, bit for bit; but u-μP, whose multipliers are absolute, and
    Lingle's, whose readout starts at 1/n."""
    names = [n for n in NAMED_RULES if n not in ("u-mup", "lingle")]
    runs = {n: curve(n, base_width=32, dtype=torch.float32) for n in ("SP", "SP+Embd+LN+Last", *names)}
    losses, weights = runs.pop("SP")
    for name, (other, others) in runs.items():
        assert other == losses, name
        assert all(torch.equal(weights[n], others[n]) for n in weights), name


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        ("everett-full-align", "sgd"),
        ("everett-no-align", "muon"),
        ("hayou-liu", "lion"),
        ("completep", "adafactor"),
    ],
)
def test_optimizers_without_a_source_are_refused(rule, optimizer):
    with pytest.raises(ConfigError, match=f"no learning rates for '{optimizer}'") as error:
        hpt.param_groups(
            Transformer(CONFIG),
            rule,
            lr=0.1,
            optimizer=optimizer,
            rest_lr=0.1 if optimizer == "muon" else None,
        )
    assert all(name in str(error.value) for name in RULES_FOR[optimizer])


def test_optimizer_mistakes_are_told():
    with pytest.raises(ConfigError, match="did you mean 'sgd'"):
        hpt.param_groups(Transformer(CONFIG), "sp", lr=0.1, optimizer="sgdm")
    with pytest.raises(ConfigError, match="rest_lr"):
        hpt.param_groups(Transformer(CONFIG), "mup-table3", lr=0.1, optimizer="muon")


def test_sgd_rates_are_the_sgd_column():
    """Table 3, SGD: inputs and vectors η·m, hidden η, readout η/m; Table 8: readout η·m."""
    for name, readout in (("mup-table3", 1 / M), ("mup-table8", M)):
        lr = {r: for_optimizer(hpt.rule(name), "sgd", r, i, M, o).lr for r, (i, o) in ROLES.items()}
        assert lr == {"embedding": M, "vector": M, "hidden": 1, "readout": readout, "fixed": 1}


def test_adafactor_divides_by_the_growth_of_the_init():
    lr = {
        r: for_optimizer(hpt.rule("everett-full-align"), "adafactor", r, i, M, o).lr
        for r, (i, o) in ROLES.items()
    }
    assert lr["hidden"] == pytest.approx(M**-0.5) == lr["readout"] and lr["embedding"] == 1


def test_the_switches_are_literal_under_any_optimizer():
    """η, and η·m where a switch says so; and a rule of one's own as it is written."""
    for optimizer in ("sgd", "lion", "muon", "muon-match-rms"):
        for rule in (hpt.rule("sp+embd"), hpt.rule("sp").with_power(0.5)):
            lr = {r: for_optimizer(rule, optimizer, r, i, M, o).lr for r, (i, o) in ROLES.items()}
            embedding = M if rule.name == "SP+Embd" else M**0.5
            assert lr == {"embedding": embedding, "hidden": 1, "readout": 1, "vector": 1, "fixed": embedding}


def test_lion_takes_any_rule_of_ones_own():
    own = hpt.rule("lingle").with_attention("1/√d_head")
    assert for_optimizer(own, "lion", "hidden", N, M, N).lr == 1 / M
    hpt.param_groups(Transformer(CONFIG), own, lr=0.1, optimizer="lion")
    with pytest.raises(ConfigError, match="no learning rates for 'muon'"):
        hpt.param_groups(Transformer(CONFIG), own, lr=0.1, rest_lr=0.1, optimizer="muon")


def test_muon_scaled_to_adamw_slows_with_the_width():
    """Its update has norm 0.2·√max(fan_out, fan_in), so that the rate falls as 1/√m; lr·λ stays."""
    scales = for_optimizer(hpt.rule("mup-table3"), "muon-match-rms", "hidden", N, M, N)
    assert (scales.lr, scales.decay) == (0.5, 2) and scales.init_std == N**-0.5
    model = Transformer(CONFIG)
    groups = hpt.param_groups(
        model, "mup-table3", lr=0.1, rest_lr=1e-3, optimizer="muon-match-rms", base_width=8
    )
    assert {g["name"]: g["lr"] for g in groups} == pytest.approx(
        {"embedding": 1e-3, "vector": 1e-3, "hidden": 0.05, "readout": 1e-3 / 4}
    )
    with pytest.raises(ConfigError, match="rest_lr"):
        hpt.param_groups(model, "mup-table3", lr=0.1, optimizer="muon-match-rms")
