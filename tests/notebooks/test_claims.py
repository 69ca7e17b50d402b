"""The price of a mistake, the best runs, and the claims of the paper."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import best_runs, check_claims, price_of_mistake
from hpt.training.loop import train

UNSTABLE = "(a, b) SP trains unstably, Embd alone smooths it: at this warm-up"


@pytest.fixture
def run(tiny_run):
    return train(tiny_run)


def sweep(**best_loss):
    rows = [
        {
            "parameterization": name,
            "width": width,
            "log2_lr": float(x),
            "lr": 2.0**x,
            "seed": 0,
            "weight_decay": 0.0,
            "diverged": False,
            "loss": loss + 4 * width**-0.5 + (0.3 if name == "SP" else 0.05) * (x + 7) ** 2 / 4,
        }
        for name, loss in best_loss.items()
        for width in (16, 32, 64, 128)
        for x in range(-10, -3)
    ]
    return pd.DataFrame(rows)


def test_price_of_a_mistake_by_hand():
    price = price_of_mistake(sweep(SP=3.0, **{"SP+Embd": 2.8}))
    assert price["log2_lr"].eq(-7).all()
    assert price.set_index(["parameterization", "width"])["price"]["SP", 64] == pytest.approx(0.3)
    assert price_of_mistake(sweep(SP=3.0), octaves=9)["price"].isna().all()


def results_of(table, run):
    """Results with the losses of a table, of runs in which SP is rougher than the rest."""
    made = []
    for row in table.to_dict("records"):
        config = dataclasses.replace(
            run.config,
            parameterization=type(run.config.parameterization).parse(row["parameterization"]),
            model=dataclasses.replace(run.config.model, width=row["width"]),
            train=dataclasses.replace(run.config.train, lr=row["lr"]),
        )
        noise = np.random.default_rng(0).normal(size=50) * (0.2 if row["parameterization"] == "SP" else 0.05)
        made.append(
            dataclasses.replace(run, config=config, val_loss=row["loss"], train_loss=np.float32(3 + noise))
        )
    return made


def judged(results, table, **options):
    report = transfer_report(table, bootstraps=100, **options)
    return {claim.claim: claim.answer for claim in check_claims(results, report, "these runs")}


def test_claims_follow_the_runs(run):
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85, "μP-Embd": 3.0})
    table["loss"] += np.random.default_rng(3).normal(0, 0.002, len(table))
    results = results_of(table, run)
    told = judged(results, table, reference="μP")
    assert told[UNSTABLE].verdict == "holds"
    warmup = run.config.train.warmup_steps
    assert f"warm-up of {warmup} of {run.config.train.steps} steps" in told[UNSTABLE].came_out
    error = told["(a) SP's runs lie further from one law of width than μP's (E)"].came_out
    assert "η* of the largest width is missed by" in error and error.count("nats") >= 2
    closes = told["(b) Embd alone brings the loss near that of μP"]
    assert closes.verdict == "holds" and "75%" in closes.came_out
    assert best_runs(results)["SP", 64].config.train.lr == 2.0**-7


def test_claims_without_their_runs_say_so(run):
    table = sweep(SP=3.0)
    told = judged(results_of(table, run), table)
    assert {claim.verdict for claim in told.values()} == {"not run"}


def test_claims_that_the_runs_contradict_do_not_hold(run):
    """SP more forgiving than the others, and μP-Embd as good as μP."""
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.98, "μP-Embd": 2.81})
    dear = 0.4 * (table["log2_lr"] + 7) ** 2 / 4
    table["loss"] += np.where(table["parameterization"] == "SP", 0, dear)
    table["loss"] += np.random.default_rng(3).normal(0, 0.002, len(table))
    results = [dataclasses.replace(r, train_loss=r.train_loss * 0 + 3) for r in results_of(table, run)]
    told = judged(results, table, reference="μP")
    for claim in (UNSTABLE, "(b) Embd alone brings the loss near that of μP"):
        assert told[claim].verdict == "does not hold here", claim


def test_claims_take_the_smallest_of_several_weight_decays(run):
    """At the larger one SP+Embd closes nothing of the gap."""
    small = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85})
    large = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 3.0}).assign(weight_decay=0.1)
    table = pd.concat([small, large], ignore_index=True)
    table["loss"] += np.random.default_rng(3).normal(0, 0.002, len(table))
    told = judged(results_of(small, run), table, reference="μP")
    assert "75%" in told["(b) Embd alone brings the loss near that of μP"].came_out


def test_claims_take_doses_of_weight_decay_too(run):
    small = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85})
    large = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 3.0})
    doses = [table.assign(dose=d, weight_decay=d / table["lr"]) for d, table in ((0.0, small), (0.3, large))]
    table = pd.concat(doses, ignore_index=True)
    table["loss"] += np.random.default_rng(3).normal(0, 0.002, len(table))
    told = judged(results_of(small, run), table, reference="μP")
    assert "75%" in told["(b) Embd alone brings the loss near that of μP"].came_out


def test_what_is_not_determined_is_said_with_its_reason(run):
    """Two widths are too few for a fit error."""
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85})
    table = table[table["width"] < 64]
    told = judged(results_of(table, run), table, reference="μP")
    error = told["(a) SP's runs lie further from one law of width than μP's (E)"]
    assert error.verdict == "undetermined" and "too few" in error.reason


def test_the_best_run_is_of_the_first_seed(run):
    table = sweep(SP=3.0)
    results = results_of(table, run)
    seeded = dataclasses.replace(results[0].config, seed=1)
    lucky = dataclasses.replace(results[0], config=seeded, val_loss=0.1)
    assert best_runs([lucky, *results]) == best_runs(results)


def test_a_grid_that_ends_too_early_leaves_the_price_undetermined(run):
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85})
    table = table[table["log2_lr"] <= -6]
    told = judged(results_of(table, run), table, reference="μP")
    unstable = told[UNSTABLE]
    assert unstable.verdict == "undetermined" and "the grid ends" in unstable.came_out


def test_a_difference_within_the_noise_of_a_run_is_no_verdict(run):
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85})
    flat = 0.25 * (table["log2_lr"] + 7) ** 2 / 4
    table["loss"] -= np.where(table["parameterization"] == "SP", flat, 0)
    table["loss"] += np.random.default_rng(3).normal(0, 0.02, len(table))
    told = judged(results_of(table, run), table, reference="μP")[UNSTABLE]
    assert told.verdict == "undetermined" and told.reason == "within the noise of a run"
