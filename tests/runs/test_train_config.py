"""Schedules and budgets."""

import numpy as np
import pytest

from hpt.errors import ConfigError
from hpt.runs.train_config import TrainConfig, lr_factor, role_factor


def test_warmup_stable_decay_by_hand():
    c = TrainConfig(steps=100, warmup_steps=10, decay_fraction=0.2, decay_power=2.0)
    factors = [lr_factor(c, t, 100) for t in range(100)]
    assert factors[:10] == pytest.approx([(t + 0.5) / 10 for t in range(10)])
    assert factors[10:80] == [1.0] * 70
    assert factors[80:] == pytest.approx([((100 - t - 0.5) / 20) ** 2 for t in range(80, 100)])


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "linear"])
@pytest.mark.parametrize("final_lr", [0.0, 0.1])
def test_schedules_rise_then_fall_to_their_end(schedule, final_lr):
    c = TrainConfig(steps=1000, warmup_steps=50, schedule=schedule, final_lr=final_lr)
    factors = np.array([lr_factor(c, t, 1000) for t in range(1000)])
    assert (np.diff(factors[:50]) > 0).all() and (np.diff(factors[50:]) <= 1e-12).all()
    assert factors.max() == pytest.approx(1, abs=1e-3) and factors[-1] == pytest.approx(final_lr, abs=3e-3)
    middle = {"wsd": 1.0, "cosine": final_lr + (1 - final_lr) / 2, "linear": final_lr + (1 - final_lr) / 2}[
        schedule
    ]
    assert factors[525] == pytest.approx(middle, abs=2e-3)


def factors(role, m=16.0, steps=100, **values):
    c = TrainConfig(steps=steps, warmup_steps=0, **values)
    return np.array([role_factor(c, role, t, steps, m) for t in range(steps)])


def test_exponential_warmup_by_hand():
    """m^min(0, t/T_w − 1): from 1/m to 1, of the matrices that the width divides."""
    expected = 16.0 ** np.minimum(0, (np.arange(100) + 0.5) / 20 - 1)
    for role in ("hidden", "readout"):
        np.testing.assert_allclose(factors(role, exponential_warmup=20), expected)
    assert (factors("embedding", exponential_warmup=20) == 1).all()
    own = factors("vector", exponential_warmup=20, exponential_warmup_on=("vector",))
    np.testing.assert_allclose(own, expected)


def test_an_embedding_rate_that_changes_over_the_run():
    t = np.arange(100) + 0.5
    early = factors("embedding", embedding_boost="early", boost_share=0.3)
    assert early.tolist() == [16.0] * 30 + [1.0] * 70
    assert factors("embedding", embedding_boost="late").tolist() == [1.0] * 90 + [16.0] * 10
    fading = factors("embedding", embedding_boost="fading", boost_share=1.0)
    np.testing.assert_allclose(fading, 16.0 ** (1 - t / 100))
    assert (factors("hidden", embedding_boost="early") == 1).all() and (factors("embedding") == 1).all()
    assert (factors("embedding", m=1.0, embedding_boost="early") == 1).all()


def test_budget_in_tokens_per_parameter():
    c = TrainConfig(tokens_per_parameter=20, batch_size=8)
    assert c.step_count(parameters=10_000, context=64) == round(20 * 10_000 / (8 * 64))


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 5, "tokens_per_parameter": 2},
        {},
        {"steps": 4, "warmup_steps": 5},
        {"steps": 5, "lr": 0},
        {"steps": 5, "lr": float("nan")},
        {"steps": 5, "sched": 1},
        {"steps": 5, "exponential_warmup": 6},
        {"steps": 5, "exponential_warmup_on": ("hiden",)},
        {"steps": 5, "embedding_boost": "later"},
        {"steps": 5, "dose": 0.1, "weight_decay": 0.1},
        {"steps": 5, "dose": -1},
        {"steps": 5, "decay_on": "embeddings"},
    ],
)
def test_bad_train_configs_are_refused(values):
    with pytest.raises(ConfigError):
        TrainConfig(**{"warmup_steps": 0, **values})
