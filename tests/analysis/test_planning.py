"""A planned sweep: its intervals are told beforehand."""

import numpy as np
import pytest

from hpt.analysis.planning import design
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import HptError
from hpt.metrics.transfer import transfer_report

SP = Law(shape="linex", beta=0.8, gamma=1.4)


def test_a_design_tells_its_intervals_beforehand():
    few = design([32, 64, 128, 256], 7, seeds=1, noise=0.02, sweeps=6, bootstraps=80)
    many = design([32, 64, 128, 256, 512], 9, seeds=3, noise=0.005, sweeps=6, bootstraps=80)
    a, b = (d.set_index(["parameterization", "figure"]) for d in (few, many))
    for figure in ("beta", "kappa", "log2_lr", "R(n)"):
        assert b.span["SP", figure] < a.span["SP", figure]
    assert (a.runs == 28).all() and (b.runs == 135).all() and a.truth["SP", "beta"] == pytest.approx(0.7)
    assert "log2_lr at 1024" in set(few.figure) and ("SP+Embd", "R") not in a.index
    real = transfer_report(
        synthetic_sweep(Law(), widths=(32, 64, 128, 256), count=7, noise=0.02), bootstraps=80
    ).to_frame()
    span = real.beta_high[0] - real.beta_low[0]
    assert 0.3 < span / a.span["SP", "beta"] < 3


def test_a_design_with_given_rates():
    grid = {32: 2.0 ** np.arange(-8, -2), 128: 2.0 ** np.arange(-10, -4)}
    frame = design([32, 128], grid, laws=SP, sweeps=2, bootstraps=40)
    at = frame.set_index("figure")
    assert at.determined["E"] == 0 and np.isinf(at.span["E"]) and at.determined["beta"] == 1
    lowest = design([32, 128], [2**-12, 2**-11, 2**-10], laws=SP, sweeps=2, bootstraps=40).set_index("figure")
    assert lowest.determined["log2_lr"] == 0
    for wrong in ({"widths": [32]}, {"lrs": 2}, {"lrs": [-1.0, 1.0]}, {"sweeps": 0}):
        with pytest.raises(HptError):
            design(**{"widths": [32, 64], "lrs": 5} | wrong)


def test_truths_of_a_design_are_those_of_its_laws():
    better = Law(L_inf=2.3, alpha=0.6)
    laws = {"SP": SP, "better": better}
    rates = 2.0 ** np.arange(-10, -3)
    frame = design([32, 64], rates, laws=laws, reference="SP", sweeps=1, bootstraps=30, target=512)
    truth = frame.set_index(["parameterization", "figure"]).truth
    assert truth["better", "kappa"] == better.kappa and truth["better", "octave_error"] == 0
    assert truth["better", "R"] == pytest.approx(better.L_inf - SP.L_inf)
    assert truth["better", "R(n)"] == pytest.approx(better.best_loss(64) - SP.best_loss(64))
    assert truth["SP", "log2_lr at 512"] == pytest.approx(SP.best_log2_lr(512))
    assert np.isnan(truth["SP", "E"]) and frame.runs.eq(14).all()
