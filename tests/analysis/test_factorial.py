"""Effects of switches: exact on full factorials, honest on partial ones, covered by their
intervals."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.factorial import MISFIT, NO_TOTAL, NOT_ESTIMABLE, Factorial, Variant, effects
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.errors import HptError
from hpt.metrics.transfer import transfer_report
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization

CELLS = list(product((0, 1), repeat=3))


def plain_effects(values):
    """Effects of bare numbers, one for each setting, without intervals."""
    names = [f"x{i + 1}" for i in range(len(next(iter(values))))]
    variants = {setting: Variant("", value) for setting, value in values.items()}
    return pd.DataFrame(Factorial(names, variants, 0.95).rows())


def estimates(frame, kind):
    return frame[frame.kind == kind].set_index("switch").estimate


def test_a_full_factorial_agrees_with_the_definitions():
    y = dict(zip(CELLS, np.random.default_rng(0).normal(size=8), strict=True))
    frame = plain_effects(y)
    for i in range(3):

        def at(s, *on, off=()):
            return y[tuple(1 if j in on else 0 if j in off else v for j, v in enumerate(s))]

        main = np.mean([at(s, i) - at(s, off=(i,)) for s in CELLS])
        assert estimates(frame, "main")[f"x{i + 1}"] == pytest.approx(main)
        joins = []
        for order in permutations(range(3)):
            before = set(order[: order.index(i)])
            joins.append(
                y[tuple(int(j in before | {i}) for j in range(3))]
                - y[tuple(int(j in before) for j in range(3))]
            )
        assert estimates(frame, "shapley")[f"x{i + 1}"] == pytest.approx(np.mean(joins))
    double = np.mean([y[1, 1, z] - y[1, 0, z] - y[0, 1, z] + y[0, 0, z] for z in (0, 1)])
    assert estimates(frame, "interaction")["x1×x2"] == pytest.approx(double)
    assert estimates(frame, "shapley").sum() == pytest.approx(y[1, 1, 1] - y[0, 0, 0])
    assert estimates(frame, "share").sum() == pytest.approx(1)


def test_a_partial_factorial_gives_what_it_determines_and_says_what_it_assumes():
    def law(s):
        return 3 - s[0] - 0.5 * s[1] + 0.25 * s[0] * s[1]

    some = {s: law(s) for s in CELLS if s != (1, 1, 0)}
    frame = plain_effects(some).set_index(["kind", "switch"])
    assert frame.estimate["main", "x1"] == pytest.approx(-0.875)
    assert frame.estimate["interaction", "x1×x2"] == pytest.approx(0.25)
    assert (frame.order == 2).loc[["main", "interaction"]].all()
    assert frame.order["shapley", "x1"] == 2 and frame.estimate["shapley", "x1"] == pytest.approx(-0.875)
    one_at_a_time = plain_effects({s: law(s) for s in CELLS if sum(s) <= 1}).set_index(["kind", "switch"])
    assert one_at_a_time.reason["interaction", "x1×x2"] == NOT_ESTIMABLE
    assert (
        one_at_a_time.estimate["main", "x1"] == pytest.approx(-1) and one_at_a_time.order["main", "x1"] == 1
    )
    lone = plain_effects({s: law(s) for s in CELLS if s[1] == s[2]}).set_index(["kind", "switch"])
    assert lone.reason["main", "x2"] == NOT_ESTIMABLE and np.isnan(lone.estimate["main", "x2"])
    assert np.isfinite(lone.estimate["main", "x1"])


def test_a_share_needs_the_whole():
    frame = plain_effects({(0, 0): 1.0, (1, 0): 3.0}).set_index(["kind", "switch"])
    assert frame.estimate["shapley", "x1"] == pytest.approx(2)
    assert frame.reason["share", "x1"] == NOT_ESTIMABLE


def sixteen(seed=0, noise=0.004, names=PARAMETERIZATIONS, **changes):
    def law(name):
        on = Parameterization.parse(name).switches
        extra = 0.08 * ("Embd" in on and "Attn" in on)
        floor = 2.7 - 0.2 * ("Embd" in on) - 0.1 * ("Attn" in on) - 0.02 * ("LN" in on) + extra
        return Law(
            L_inf=floor, beta=0.6 + 0.3 * ("Embd" in on), gamma=1.2 + 0.6 * ("Embd" in on), shape="linex"
        )

    laws = {str(name): law(name) for name in names}
    return synthetic_sweep(laws, widths=(32, 64, 128, 256), noise=noise, count=7, seed=seed, **changes)


@pytest.fixture(scope="module")
def report():
    return transfer_report(sixteen(), bootstraps=150)


def test_effects_of_the_sixteen_are_those_put_in(report):
    truth = {"Embd": -0.16, "Attn": -0.06, "LN": -0.02, "Last": 0.0}
    for figure in ("loss", "penalty"):
        frame = effects(report, figure).set_index(["kind", "switch"])
        assert frame.width.eq(256).all() and frame.variants.eq(16).all() and frame.order.eq(4).all()
        for kind in ("main", "shapley"):
            for switch, value in truth.items():
                row = frame.loc[(kind, switch)]
                assert row.estimate == pytest.approx(value, abs=0.008) and row.low < row.estimate < row.high
                assert row.high - row.low < 0.03 and row.determined
        assert frame.loc[("interaction", "Attn×Embd"), "estimate"] == pytest.approx(0.08, abs=0.015)
        assert frame.loc[("share", "Embd"), "estimate"] == pytest.approx(0.16 / 0.24, abs=0.05)
    beta = effects(report, "beta").set_index(["kind", "switch"])
    assert beta.estimate["main", "Embd"] == pytest.approx(0.3, abs=0.03)
    assert abs(beta.estimate["main", "Attn"]) < 0.03
    E = effects(report, "E").set_index(["kind", "switch"])
    assert E.loc["main", "low"].lt(0).all() and E.loc["main", "high"].gt(0).all()
    assert set(E.reason["share"]) == {NO_TOTAL}


def test_effects_say_how_their_intervals_were_made(report):
    frame = effects(report, "E")
    known = frame.low.notna()
    assert known.any() and (frame.method[known] == "parametric").all() and (frame.method[~known] == "").all()


def test_intervals_of_effects_cover():
    inside = []
    for seed in range(4):
        frame = (
            effects(transfer_report(sixteen(seed + 1), bootstraps=60))
            .query("kind == 'main'")
            .set_index("switch")
        )
        for switch, value in {"Embd": -0.16, "Attn": -0.06, "LN": -0.02, "Last": 0.0}.items():
            inside.append(frame.low[switch] <= value <= frame.high[switch])
    assert np.mean(inside) >= 13 / 16


def test_a_partial_study_and_other_groups():
    table = pd.concat(
        [
            sixteen(names=("SP", "SP+Embd", "SP+Attn", "SP+Attn+Embd")).assign(weight_decay=w)
            for w in (0.0, 0.1)
        ]
    )
    frame = effects(transfer_report(table, bootstraps=60), "kappa")
    assert set(frame.switch) == {"Attn", "Embd", "Attn×Embd"} and set(frame.weight_decay) == {0.0, 0.1}
    clash = sixteen(names=("SP", "SP+Embd", "SP+Attn", "SP+LN", "μP", "SP+Attn+LN"))
    loss = effects(transfer_report(clash, bootstraps=60)).set_index(["kind", "switch"])
    assert loss.order["main", "Embd"] < 4 and loss.variants.eq(6).all()


def test_interactions_that_the_variants_cannot_hold_are_named():
    names = ("SP", "SP+Attn+Embd", "SP+Attn+LN", "SP+Embd+LN", "μP-Last")
    frame = effects(transfer_report(sixteen(names=names), bootstraps=80)).query("kind == 'main'")
    assert frame.order.eq(1).all() and set(frame.reason) == {MISFIT} and not frame.determined.any()


def test_switches_of_your_own():
    parts = [
        synthetic_sweep(Law(L_inf=2.5 + 0.2 * a - 0.1 * b), noise=0.003).assign(
            norm=["pre", "post"][a], bias=b
        )
        for a in (0, 1)
        for b in (0, 1)
    ]
    table = pd.concat(parts).drop(columns="parameterization")
    report = transfer_report(table, by=("norm", "bias"), bootstraps=60)
    main = (
        effects(report, "loss", switches=("norm", "bias"))
        .query("kind == 'main'")
        .set_index("switch")
        .estimate
    )
    assert main["norm"] == pytest.approx(-0.2, abs=0.01) and main["bias"] == pytest.approx(-0.1, abs=0.01)
    for wrong in ({"switches": ("norms",)}, {"figure": "kapa"}, {}):
        with pytest.raises(HptError):
            effects(report, **wrong)
