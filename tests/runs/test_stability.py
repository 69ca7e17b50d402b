"""Excess loss and roughness."""

import dataclasses
import math

import numpy as np
import pytest

from hpt.errors import ConfigError
from hpt.runs.stability import excess_loss, roughness
from hpt.training.loop import train


@pytest.fixture
def run(tiny_run):
    return train(tiny_run)


def with_curve(run, curve, **changes):
    return dataclasses.replace(run, train_loss=np.float32(curve), **changes)


def test_excess_cancels_what_both_share(run):
    noise = np.random.default_rng(0).normal(size=100)
    stable, other = with_curve(run, 3 + noise), with_curve(run, 3.5 + noise)
    np.testing.assert_allclose(excess_loss(other, stable), 0.5, atol=1e-6)
    assert roughness(other, stable) < 1e-6
    assert len(excess_loss(with_curve(run, [3, math.nan]), stable)) == 2


def test_roughness_of_independent_steps_is_known(run):
    """Independent steps of standard deviation s differ by s·√2 from one to the next."""
    rng = np.random.default_rng(1)
    smooth, rough = with_curve(run, np.zeros(20_000)), with_curve(run, rng.normal(0, 0.1, 20_000))
    assert roughness(rough, smooth) == pytest.approx(0.1 * math.sqrt(2), rel=0.02)
    slow = with_curve(run, np.linspace(3, 1, 20_000))
    assert roughness(slow, smooth) < 1e-3
    assert math.isnan(roughness(with_curve(run, [1, 2, 3]), smooth))


def test_other_batches_are_refused(run):
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, seed=1))
    with pytest.raises(ConfigError, match="different batches"):
        excess_loss(run, other)
