"""Claims and their verdicts, the price of a mistake."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpt.metrics.transfer import transfer_report
from hpt.notebooks.claims import best_runs, claims, price_of_mistake
from hpt.training.loop import train


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
    made = []
    for row in table.to_dict("records"):
        config = dataclasses.replace(
            run.config,
            parameterization=type(run.config.parameterization).parse(row["parameterization"]),
            model=dataclasses.replace(run.config.model, width=row["width"]),
            train=dataclasses.replace(run.config.train, lr=row["lr"]),
        )
        noise = np.random.default_rng(0).normal(size=50) * (
            0.2 if row["parameterization"] == "SP" else 0.05
        )
        made.append(
            dataclasses.replace(
                run, config=config, val_loss=row["loss"], train_loss=np.float32(3 + noise)
            )
        )
    return made


def test_claims_follow_the_runs(run):
    table = sweep(SP=3.0, μP=2.8, **{"SP+Embd": 2.85, "μP-Embd": 3.0})
    table["loss"] += np.random.default_rng(3).normal(0, 0.002, len(table))
    results = results_of(table, run)
    told = claims(results, transfer_report(table, reference="μP", bootstraps=100)).set_index(
        "claim"
    )
    assert told.loc["SP trains unstably, Embd alone smooths it", "verdict"] == "holds"
    closes = told.loc["Embd alone brings the loss near that of μP"]
    assert closes["verdict"] == "holds" and "75%" in closes["came out"]
    assert told.loc["μP without Embd loses its advantage", "verdict"] == "holds"
    assert told.loc["weight decay lowers E for SP", "verdict"] == "not run"
    assert best_runs(results)["SP", 64].config.train.lr == 2.0**-7


def test_claims_without_their_runs_say_so(run):
    table = sweep(SP=3.0)
    told = claims(results_of(table, run), transfer_report(table, bootstraps=50))
    assert set(told["verdict"]) == {"not run"}
