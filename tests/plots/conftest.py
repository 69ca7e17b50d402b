"""A report with what pictures have to tell: groups that are not determined, and one that all diverged."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.training.loop import train

LAWS = {
    "SP": Law(),
    "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.6),
    "SP+LN": Law(A=0.0, L_inf=3.0),
    "μP </script>": Law(L_inf=2.4),
}


@pytest.fixture(scope="package")
def doubtful_report():
    table = pd.concat(
        [
            synthetic_sweep(LAWS, noise=0.005, seeds=2, seed=i).assign(weight_decay=w)
            for i, w in enumerate((0.0, 0.1))
        ]
    )
    table.loc[(table.parameterization == "SP") & (table.weight_decay == 0.1) & (table.width > 32), "loss"] = (
        np.inf
    )
    return transfer_report(table, reference="SP+Embd", bootstraps=80)


@pytest.fixture
def runs(tiny_run):
    rates = [
        dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, lr=x))
        for x in (0.01, 0.02, 1.0)
    ]
    return [train(run) for run in rates]


@pytest.fixture
def browser(browser):
    """The browser at its own size, without what pages of other tests left to be said."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")
    browser.get_log("browser")
    return browser
