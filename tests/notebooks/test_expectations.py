"""What was expected, beside what came out: on sweeps whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import Verdict
from hpt.notebooks.expectations import FINDERS, outcomes
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.study.references import Reference, reference_definition, reference_names


def of(name):
    """A reference study without runs: what was expected of it."""
    return Reference(name, "quick", {"expected": reference_definition(name)["expected"]}, (), ())


def sweep_of(effect, noise=0.003):
    """All sixteen, whose L∞ is a sum over the switches that are on."""
    laws = {
        str(p): Law(L_inf=2.8 + sum(x for switch, x in effect.items() if getattr(p, switch)))
        for p in PARAMETERIZATIONS
    }
    return synthetic_sweep(laws, widths=(16, 32, 64, 128), noise=noise, seeds=2, seed=4)


@pytest.fixture(scope="module")
def told():
    effect = {"embd": -0.3, "attn": -0.1, "ln": 0.1, "last": 0.0}
    report = transfer_report(sweep_of(effect), reference="SP", bootstraps=60)
    return dict(zip(of("sixteen").manifest["expected"], outcomes(of("sixteen"), report), strict=True))


def test_what_came_out_is_the_truth(told):
    """Embd has −0.3 of −0.3 nats in all; μP without it gains 0 of 0.3."""
    assert told["embd_share"].verdict == Verdict.HOLDS and "100%" in told["embd_share"].came_out
    assert told["last_loss"].verdict == Verdict.HOLDS
    assert told["ln_loss"].verdict == Verdict.FAILS and "+0.1" in told["ln_loss"].came_out
    assert told["without_embd"].verdict == Verdict.HOLDS
    # Noise alone makes E here, and Embd does nothing to it: never "by 2 to 13".
    assert told["embd_E"].verdict != Verdict.HOLDS


class Stub:
    """A reference study of weight decay with a made-up table."""

    name = "decay"

    def __init__(self, table):
        self.table = table
        self.manifest = {"expected": reference_definition("decay")["expected"]}


def decayed(arm, embedding_cost):
    """Each variant at doses 0, 1, 10: a dose costs 0.01 nats of its ln(1 + dose), SP+Embd more."""
    parts = []
    for dose in (0.0, 1.0, 10.0):
        cost = 0.01 * np.log1p(dose)
        laws = {
            "SP": Law(L_inf=2.8 + cost),
            "SP+Embd": Law(L_inf=2.6 + cost + embedding_cost * dose / 10),
            "μP": Law(L_inf=2.5 + cost),
        }
        sweep = synthetic_sweep(laws, widths=(16, 32, 64, 128), count=5, noise=0.002, seeds=2, seed=7)
        parts.append(sweep.assign(dose=dose, weight_decay=dose / (300 * sweep["lr"]), arm=arm))
    return pd.concat(parts)


def test_decay_is_told_from_its_share_on_the_embedding():
    table = pd.concat([decayed("coupled", 0.1), decayed("hidden matrices only", 0.0)])
    report = transfer_report(table, by="arm", bootstraps=60)
    study = Stub(table)
    told = dict(zip(study.manifest["expected"], outcomes(study, report), strict=True))
    # ln 11 · 0.01 nats, below the 0.05 that were expected.
    assert told["large_dose"].verdict == Verdict.FAILS and "+0.02" in told["large_dose"].came_out
    assert told["confound"].verdict == Verdict.HOLDS and "+0.1" in told["confound"].came_out
    # 0.1 of the 0.3 nats of gap are lost.
    assert told["share"].verdict == Verdict.HOLDS and "-33%" in told["share"].came_out.replace("-34", "-33")
    assert told["shift"].verdict != Verdict.FAILS


def test_every_expectation_has_a_finder_and_a_range():
    for name in reference_names():
        expected = reference_definition(name)["expected"]
        assert set(FINDERS.get(name, expected)) == set(expected)
        for entry in expected.values():
            low, high = map(float, entry["interval"])
            assert low < high and not np.isnan([low, high]).any()
            assert entry["question"].endswith("?") and entry["expected"]
