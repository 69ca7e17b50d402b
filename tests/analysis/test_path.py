"""What each step from one parameterization to another gains."""

import numpy as np
import pytest

from hpt.analysis.compare import gap_closed
from hpt.analysis.path import gap_steps
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import TableError
from hpt.metrics.transfer import transfer_report

LAWS = {"SP": Law(L_inf=2.8), "SP+Embd": Law(L_inf=2.6), "SP+Attn+Embd": Law(L_inf=2.6), "μP": Law(L_inf=2.5)}
PATH = tuple(LAWS)


@pytest.fixture(scope="module")
def report():
    sweep = synthetic_sweep(LAWS, widths=(32, 64, 128), noise=0.005, seeds=2, seed=1)
    return transfer_report(sweep, bootstraps=100)


def test_steps_recover_the_truth_and_add_up_to_the_gap(report):
    steps = gap_steps(report, path=PATH)
    assert steps["from"].tolist() == list(PATH[:-1]) * 3 and steps["to"].tolist() == list(PATH[1:]) * 3
    gains = steps["gain"].to_numpy().reshape(3, 3)
    np.testing.assert_allclose(gains, [[0.2, 0.0, 0.1]] * 3, atol=0.03)
    np.testing.assert_allclose(steps["share"].to_numpy().reshape(3, 3).sum(1), 1)
    assert steps["determined"].to_numpy().reshape(3, 3)[:, 0].all()
    assert set(steps.loc[~steps["determined"], "reason"]) <= {"not told from zero"}
    # The first step's share is the share of the gap that SP+Embd closes.
    np.testing.assert_allclose(steps["share"][::3], gap_closed(report)["share"])


def test_a_path_that_the_table_lacks_is_refused(report):
    with pytest.raises(TableError, match="'μP-LN' is not in the table"):
        gap_steps(report)
    with pytest.raises(TableError, match="no step"):
        gap_steps(report, path=["SP"])
