"""What came out of reference studies, on sweeps whose truth is known."""

import inspect

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.notebooks import findings as figures
from hpt.notebooks.claims import Verdict
from hpt.notebooks.expectations import findings, outcomes
from hpt.notebooks.findings import bottom_of_parabolas, reference_report
from hpt.study.references import reference_definition, reference_names


class Stub:
    """A reference study with a made-up table."""

    def __init__(self, name, table):
        self.name = name
        self.table = table


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
    study = Stub("decay", table)
    told = dict(zip(reference_definition("decay")["expected"], outcomes(study, report), strict=True))
    # ln 11 · 0.01 nats, below the 0.05 that were expected.
    assert told["large_dose"].verdict == Verdict.FAILS and "+0.02" in told["large_dose"].came_out
    assert told["confound"].verdict == Verdict.HOLDS and "+0.1" in told["confound"].came_out
    # 0.1 of the 0.3 nats of gap are lost.
    assert told["share"].verdict == Verdict.HOLDS and told["share"].came_out[:3] in ("−33", "−34")
    assert told["shift"].verdict != Verdict.FAILS


def told_of(name, table, bootstraps=40):
    """What came of each expectation of a study, on this table."""
    study = Stub(name, table)
    made = findings(study, reference_report(study, bootstraps))
    return dict(zip(reference_definition(name)["expected"], made, strict=True))


def arms_of(laws, widths=(16, 32, 64, 128), **columns):
    """A sweep an arm and parameterization."""
    parts = []
    for (arm, name), law in laws.items():
        sweep = synthetic_sweep({name: law}, widths=widths, count=7, noise=0.002, seeds=2, seed=3)
        parts.append(sweep.assign(arm=arm, **columns))
    return pd.concat(parts)


def test_lingles_arms_by_their_drift():
    """An optimum that falls by 1/n drifts by three octaves from 16 to 128, one that stays by none."""
    table = arms_of(
        {
            ("base", "Lingle"): Law(beta=0.0),
            ("SP", "Lingle, SP"): Law(beta=1.0),
            ("Lion", "Lingle"): Law(beta=0.33),
        }
    )
    told = told_of("lingle", table)
    by_arm = {finding.expectation.get("arm"): finding.found for finding in told.values()}
    assert -0.5 < by_arm["base"].low < by_arm["base"].high < 0.5
    assert by_arm["SP"].low < -3 < by_arm["SP"].high < -2.5
    assert by_arm["cosine"] is None
    assert told["failures"].found is None


def test_counts_are_over_all_arms_of_a_verdict():
    expected = reference_definition("lingle")["expected"]
    arms = {entry["arm"]: entry["says"] for entry in expected.values() if "arm" in entry}
    assert list(arms.values()).count("fails") == 6 and len(arms) == 17
    moving = ("SP", "Lion", "cosine")
    told = told_of("lingle", arms_of({(arm, "x"): Law(beta=float(arm in moving)) for arm in arms}))
    assert told["failures"].found.low == 2 and told["successes"].found.came_out == "1 of 11"


@pytest.mark.parametrize("rho", [0.5, 1.0])
def test_the_exponent_of_the_best_ratio_is_recovered(rho):
    """Losses that rise by 0.02 nats a squared octave of distance from the ratio n^ρ."""
    parts = []
    for i in range(5):
        name = f"SP, embedding × {4**i}" if i else "SP"
        for width in (16, 32, 64, 128):
            cost = 0.02 * (2 * i - rho * np.log2(width)) ** 2
            law = Law(L_inf=2.8 + cost)
            parts.append(synthetic_sweep({name: law}, widths=(width,), count=5, noise=0.002, seeds=2, seed=3))
    table = pd.concat(parts)
    arms = [table.assign(arm=f"vocabulary {v}") for v in (320, 4096)]
    rest = arms_of(
        {
            ("vocabulary 4096", "SP, embedding × √n"): Law(L_inf=2.7),
            ("vocabulary 4096", "SP+Embd"): Law(L_inf=2.8),
        }
    )
    told = told_of("vocabulary", pd.concat([*arms, rest]))
    found = told["rho_large"].found
    assert found.low - 0.05 < rho < found.high + 0.05 and found.high - found.low < 0.3
    assert told["root"].found.low == pytest.approx(0.1, abs=0.02)


def test_the_bottom_of_a_parabola():
    x = np.arange(5.0)[:, None]
    assert bottom_of_parabolas((x - 1.3) ** 2) == pytest.approx(1.3)
    assert bottom_of_parabolas((x + 2) ** 2) == 0 and bottom_of_parabolas((x - 9) ** 2) == 4
    far, near = (x - 1.3) ** 2, (x - 1.3) ** 2
    far[4], near[2] = np.nan, np.nan
    assert bottom_of_parabolas(far) == pytest.approx(1.3) and np.isnan(bottom_of_parabolas(near))


def test_parts_of_a_gain_and_gains():
    table = arms_of(
        {
            ("always", "SP"): Law(L_inf=3.0),
            ("always", "SP+Embd"): Law(L_inf=2.6),
            ("early", "SP"): Law(L_inf=2.7),
            ("late", "SP"): Law(L_inf=2.9),
        },
        widths=(32, 128),
    )
    told = told_of("dynamic", table)
    assert told["early"].found.came_out.startswith("75%") and told["late"].found.came_out.startswith("25%")
    sp, embd = Law(L_inf=3.0), Law(L_inf=2.8)
    table = arms_of(
        {
            ("60 steps", "SP"): sp,
            ("60 steps", "SP+Embd"): embd,
            ("8 steps", "SP"): Law(L_inf=3.3),
            ("8 steps", "SP+Embd"): embd,
            ("120 steps", "SP"): Law(L_inf=2.9),
            ("120 steps", "SP+Embd"): embd,
            ("exponential, 120 steps", "SP"): Law(L_inf=2.9),
        },
        widths=(32, 128),
    )
    told = told_of("warmup", table)
    assert told["short"].found.low == pytest.approx(0.4, abs=0.02)
    assert told["long"].found.low == pytest.approx(0.1, abs=0.02)
    assert told["exponential"].found.came_out.startswith("50%")


def test_what_decay_does_to_kappa():
    """γ is a part of κ, so that a change of it by 1 is one of κ."""
    laws = {"λ fixed": Law(gamma=1.2), "more": Law(gamma=2.2)}
    parts = {
        name: synthetic_sweep({"SP+Embd": law}, widths=(16, 32, 64, 128), noise=0.001, seeds=3, seed=3)
        for name, law in laws.items()
    }
    plain, more = parts["λ fixed"], parts["more"]
    table = pd.concat(
        [
            plain.assign(arm="no decay", weight_decay=0.0, dose=0.0),
            more.assign(arm="λ fixed", weight_decay=0.5, dose=150 * more["lr"]),
            plain.assign(arm="dose fixed", weight_decay=0.02 / plain["lr"], dose=3.0),
        ]
    )
    study = Stub("tokens_per_parameter", table)
    report = reference_report(study, 40)
    raised, same = (finding.found for finding in findings(study, report))
    assert raised.low > 0.3 and same.low <= 0 <= same.high


def test_every_expectation_names_a_figure_and_its_arguments():
    asked = set()
    for name in reference_names():
        for entry in reference_definition(name)["expected"].values():
            [(figure, arguments)] = entry["figure"].items()
            inspect.signature(getattr(figures, figure)).bind(None, None, **arguments)
            assert "arm" not in entry or arguments == {"arm": entry["arm"]}
            asked.add(figure)
    own = inspect.getmembers(figures, lambda each: inspect.getmodule(each) is figures)
    public = {name for name, each in own if inspect.isfunction(each) and not name.startswith("_")}
    assert public - asked == {"find", "reference_report", "bottom_of_parabolas"}


def test_longer_runs_are_told_by_their_tokens():
    """η* falls by tokens^−0.3; Embd gains 0.16 nats in the shortest runs, 0.04 in the longest."""
    laws = {
        "SP": Law(L_inf=3.0, A=2.0, alpha=0.5, beta=0.3),
        "SP+Embd": Law(L_inf=3.0, A=1.0, alpha=0.5, beta=0.3),
    }
    sweep = synthetic_sweep(laws, widths=(16, 32, 64, 128, 256), count=7, noise=0.002, seeds=2, seed=5)
    table = sweep.rename(columns={"width": "tokens"}).assign(width=64, arm=sweep["width"].astype(str))
    told = {name: finding.found for name, finding in told_of("horizon", table).items()}
    assert told["power"].low < 0.3 < told["power"].high and told["power"].high - told["power"].low < 0.3
    gain = 256**-0.5
    assert told["left"].low < gain < told["left"].high
    assert told["kept"].low < (16 / 256) ** 0.5 < told["kept"].high < 0.5
