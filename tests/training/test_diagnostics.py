"""Looks into runs, against weights and inputs taken by hand."""

import dataclasses

import pandas as pd
import pytest
import torch

from hpt.data.source import load
from hpt.errors import ConfigError
from hpt.runs.diagnostics import LOOKED_AT, diagnostics_table
from hpt.training.diagnostics import look
from hpt.training.horizons import train_horizons
from hpt.training.loop import Training, train
from hpt.training.stacked import train_stacked
from hpt.training.start import raw_model
from hpt.training.weights import named_weights


def looked_at(run, **model):
    train_config = dataclasses.replace(run.train, diagnostics=4)
    return dataclasses.replace(run, train=train_config, model=dataclasses.replace(run.model, **model))


@pytest.mark.parametrize("options", [{}, {"tie_readout": True}, {"mixer": "gla", "bias": True}], ids=str)
def test_a_look_by_hand(tiny_run, options):
    """The role's ‖W‖ and ‖ΔW‖/‖W‖, and the alignments of a key, the readout and the lookup, at step 2
    of 12."""
    run = looked_at(tiny_run, depth=1, **options)
    training = Training([run], load(run.data), torch.device("cpu"))
    training.advance(2)
    weights = {n: w[0] for n, w in named_weights(training.groups).items()}
    before = {n: w.clone() for n, w in weights.items()}
    twin = raw_model(run)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(before[name])
    training.advance(3)
    update = {n: w - before[n] for n, w in weights.items()}
    roles = {n: group.role for group in training.groups for n in group.shapes}
    found = {row["role"]: row for row in training.diagnostics[0] if row["step"] == 2}

    ids = training.batch(0, 2)[0][:2]
    inputs = {}
    twin.blocks[0].attention.register_forward_pre_hook(lambda _, x: inputs.update(key=x[0]))
    with torch.no_grad():
        twin(ids)
    for of, column in ((before, "weight_alignment"), (update, "update_alignment")):
        key = of["blocks.0.attention.key.weight"]
        aligned = (inputs["key"] @ key.T).norm() / (key.norm() * inputs["key"].norm())
        hidden = [n for n in of if "blocks" in n and of[n].ndim == 2]
        assert 0 < float(aligned) < 1
        lookup = of["token_embedding.weight"]
        seen = lookup[ids.flatten()].norm() / (lookup.norm() * ids.numel() ** 0.5)
        place = of["position_embedding.weight"]
        placed = place.norm() / (place.norm() * 16**0.5)
        assert found["embedding"][column] == pytest.approx(float(seen + placed) / 2, rel=1e-4)
        parts = found["hidden"][column] * len(hidden) - float(aligned)
        assert 0 < parts < len(hidden) - 1
    for role, row in found.items():
        names = [n for n in before if roles[n] == role]
        norm = sum(before[n].square().sum() for n in names).sqrt()
        change = sum(update[n].square().sum() for n in names).sqrt()
        assert row["weight_norm"] == pytest.approx(float(norm), rel=1e-4)
        assert row["update"] == pytest.approx(float(change / norm), rel=1e-4)


def test_one_hidden_layer_by_hand(tiny_run):
    """An MLP's output alone, of all that is hidden: its alignment is that of W and its input."""
    run = looked_at(tiny_run)
    training = Training([run], load(run.data), torch.device("cpu"))
    name = "blocks.1.mlp.down.weight"
    weight = named_weights(training.groups)[name]
    before = {n: w.clone() for n, w in named_weights(training.groups).items()}
    inputs, _ = training.read(0)
    seen = []
    twin = raw_model(run)
    hook = twin.blocks[1].mlp.down.register_forward_pre_hook(lambda _, x: seen.append(x[0].detach()))
    torch.func.functional_call(twin, {n: w[0] for n, w in before.items()}, (inputs[0],))
    hook.remove()
    training.advance(1)
    after = {name: weight}
    one_step = training.one_step
    (rows,) = look(
        one_step.model, {name: "hidden"}, one_step.constants, before, before | after, inputs, torch.float32
    )
    (row,) = rows
    x_NxD = seen[0][:2].flatten(0, 1)
    before, update = before[name][0], (weight - before[name])[0]
    for matrix, column in ((before, "weight_alignment"), (update, "update_alignment")):
        aligned = (x_NxD @ matrix.T).norm() / (matrix.norm() * x_NxD.norm())
        assert row[column] == pytest.approx(float(aligned), rel=1e-4)


def test_stacks_see_what_single_runs_see(tiny_run):
    runs = [dataclasses.replace(looked_at(tiny_run), seed=seed) for seed in (0, 1)]
    runs.append(dataclasses.replace(runs[0], train=dataclasses.replace(runs[0].train, lr=1e9)))
    together, alone = diagnostics_table(train_stacked(runs)), diagnostics_table(map(train, runs))
    mine = together["lr"] < 1
    pd.testing.assert_frame_equal(together[mine], alone[alone["lr"] < 1], rtol=2e-4)
    assert together[mine].groupby("seed")["step"].nunique().tolist() == [4, 4]
    assert (together[mine].query("role == 'hidden'")[[*LOOKED_AT]] > 0).all(axis=None)


def test_zeros_have_no_alignment(tiny_run):
    run = looked_at(tiny_run, bias=True, zero_query_init=True)
    table = diagnostics_table([train(run)]).query("step == 0").set_index("role")
    assert 0 < table.loc["hidden", "weight_alignment"] < 1  # of the layers that are not zero


def test_horizons_are_not_looked_into(tiny_run):
    with pytest.raises(ConfigError, match="diagnostics=4"):
        train_horizons(looked_at(tiny_run), steps=[8, 12])
