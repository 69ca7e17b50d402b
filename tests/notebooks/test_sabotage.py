"""The sabotaged optimizers: each fault is there, does what it says, and is scored."""

import pytest
import torch
from sabotage import FAULTS, NAMES, Sabotage
from solved import solution

from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.coordinates import coord_check
from hpt.parameterization.groups import param_groups
from hpt.training.step import cross_entropy


def named(fault):
    """A riddle and the name of an optimizer in it with this fault."""
    riddle = Sabotage(3)
    return riddle, next(name for name in NAMES if riddle._fault_of[name] == fault)


def test_the_seed_draws_the_order_and_each_fault_is_there():
    orders = [tuple(Sabotage(seed)._fault_of.values()) for seed in range(20)]
    assert len(set(orders)) == 20 and orders[3] == tuple(Sabotage(3)._fault_of.values())
    assert all(set(order) == set(FAULTS) and len(order) == len(NAMES) for order in orders)


@pytest.mark.parametrize(
    "fault, role, factor",
    [
        ("hidden not ÷ m", "hidden", 4),
        ("hidden ÷ √m", "hidden", 2),
        ("readout not ÷ m", "readout", 4),
        ("embedding ÷ m", "embedding", 1 / 4),
        ("embedding ÷ 16", "embedding", 1 / 16),
        ("vectors ÷ m", "vector", 1 / 4),
        ("none", "hidden", 1),
    ],
)
def test_a_fault_changes_one_rate(fault, role, factor):
    riddle, name = named(fault)
    model = Transformer(ModelConfig(width=32, depth=1, d_head=8, vocab_size=16))
    healthy = param_groups(model, "mup-table3", lr=0.1, base_width=8)
    spoilt = riddle.optimizer(name)(healthy).param_groups
    for before, after in zip(healthy, spoilt, strict=True):
        assert after["lr"] / before["lr"] == pytest.approx(factor if before["name"] == role else 1)


def test_a_coordinate_check_sees_four_faults_and_is_blind_to_two():
    architecture = {"depth": 1, "d_head": 16, "vocab_size": 64, "context": 16}
    batch = torch.randint(64, (2, 4, 16), generator=torch.Generator().manual_seed(0))
    seen = {}
    for fault in FAULTS:
        riddle, name = named(fault)
        check = coord_check(
            lambda width: Transformer(ModelConfig(width=width, **architecture)),
            [16, 32, 64],
            "mup-table3",
            loss=lambda model: cross_entropy(model(batch[0]), batch[1]),
            lr=0.25 / 16,
            seeds=1,
            make_optimizer=riddle.optimizer(name),
        )
        slopes = check.slopes.query("quantity == 'update'").set_index("role")["slope"]
        seen[fault] = list(slopes.index[slopes.abs() > 0.35])
    assert seen["none"] == []
    assert "hidden" not in seen["hidden ÷ √m"] and "embedding" not in seen["embedding ÷ 16"]
    assert "hidden" in seen["hidden not ÷ m"] and "readout" in seen["readout not ÷ m"]
    assert "embedding" in seen["embedding ÷ m"] and "vector" in seen["vectors ÷ m"]


def test_a_diagnosis_is_scored_and_what_is_none_told(capsys):
    riddle, name = named("none")
    others = [other for other in NAMES if other != name]
    found = riddle.hand_in({name: "none", others[0]: "embeding ÷ m", "Z": "none", others[1]: None})
    out = capsys.readouterr().out
    assert list(found.index) == [name] and found["right"].all()
    assert out.count("✗") == 3 and "embedding ÷ m" in out and "1 of 8 found" in out
    assert riddle.hand_in({}) is None and "0 of 8" in capsys.readouterr().out


def test_rates_at_two_widths_tell_every_fault_and_at_one_they_do_not():
    fault_of = solution("13").fault_of
    groups = {m: [{"params": [torch.zeros(1, requires_grad=True)], "name": role, "lr": rate}
                  for role, rate in (("embedding", 1), ("vector", 1), ("hidden", 1 / m), ("readout", 1 / m))]
              for m in (4, 16)}  # fmt: skip
    for seed in range(5):
        riddle = Sabotage(seed)
        rates = {}
        for name in NAMES:
            made = {m: riddle.optimizer(name)(rows).param_groups for m, rows in groups.items()}
            rates[name] = {m: {row["name"]: row["lr"] for row in rows} for m, rows in made.items()}
        assert riddle.hand_in({name: fault_of(rates[name]) for name in NAMES})["right"].all()
        at_one = {name: fault_of({16: rates[name][16]}) for name in NAMES}
        assert not riddle.hand_in(at_one)["right"].all()
