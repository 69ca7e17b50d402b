"""Regret of a learning rate that was tuned at a smaller width."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.regret import transfer_regret
from hpt.analysis.synthetic import Law, synthetic_sweep

RATES = range(-12, -2)


def bowl(name, slope):
    """A parabola in log2 η about −4 − slope·log2(width / 16), one run a cell."""
    cells = [(w, x) for w in (16, 32, 64, 128) for x in RATES]
    table = pd.DataFrame(cells, columns=["width", "log2_lr"])
    optimum = -4 - slope * np.log2(table["width"] / 16)
    return table.assign(parameterization=name, loss=3 + 0.1 * (table["log2_lr"] - optimum) ** 2)


def test_what_falls_as_the_width_pays_for_staying_and_not_for_scaling():
    regret = transfer_regret(pd.concat([bowl("falls", 1), bowl("stays", 0)])).set_index("parameterization")
    assert regret.loc["falls", "width"].tolist() == [16, 32, 64]
    np.testing.assert_allclose(regret.loc["falls", "scaled"], 0, atol=1e-12)
    np.testing.assert_allclose(regret.loc["falls", "unchanged"], [0.9, 0.4, 0.1])
    np.testing.assert_allclose(regret.loc["stays", "unchanged"], 0, atol=1e-12)
    np.testing.assert_allclose(regret.loc["stays", "scaled"], [0.9, 0.4, 0.1])


def test_seeds_are_averaged_and_what_was_not_tried_is_nan():
    table = bowl("falls", 1).query("width < 128 or log2_lr < -6")
    noisy = pd.concat([table.assign(loss=table["loss"] + noise) for noise in (-0.02, 0.02)])
    regret = transfer_regret(noisy)
    assert regret["unchanged"].isna().tolist() == [True, True, True]
    assert regret["scaled"].tolist() == pytest.approx([0, 0, 0])


def test_it_is_never_below_zero():
    sweep = synthetic_sweep({"SP": Law(), "μP": Law(beta=0.5)}, noise=0.05, seed=3)
    regret = transfer_regret(sweep)[["unchanged", "scaled"]].stack()
    assert (regret.dropna() >= 0).all() and len(regret)
