"""Before the first step: first weights, rates, what is refused."""

import contextlib
import dataclasses
import math

import pytest
import torch

import hpt
from hpt.data.source import DataConfig
from hpt.errors import ConfigError, DataError
from hpt.training import start
from hpt.training.loop import Training, train
from hpt.training.start import build_model, rate_groups


def test_a_tied_readout_has_the_size_that_the_rule_asks_for(tiny_run):
    tied = dataclasses.replace(tiny_run.model, tie_readout=True)
    size = {}
    for name in ("mup", "mup-table8"):
        run = dataclasses.replace(tiny_run, model=tied, parameterization=hpt.rule(name, 4))
        size[name] = build_model(run).readout_multiplier
        assert math.isfinite(train(run).val_loss)
    assert size["mup-table8"] == pytest.approx(size["mup"]) == pytest.approx(1 / 4 / 2)


OPTIONS = {
    "all biases": {"bias": True, "readout_bias": True, "embedding_norm": True, "kv_heads": 1},
    "tied": {"tie_readout": True, "norm_gain": "scalar", "positions": "rotary", "activation": "swiglu"},
    "gated": {"mixer": "gla", "bias": True, "zero_query_init": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_number_of_a_run_is_torchs_own_draw(tiny_run, options, monkeypatch):
    run = dataclasses.replace(tiny_run, model=dataclasses.replace(tiny_run.model, **options))
    undrawn = build_model(run).state_dict()
    monkeypatch.setattr(start, "_Undrawn", contextlib.nullcontext)
    for name, drawn in build_model(run).state_dict().items():
        assert torch.equal(undrawn[name], drawn), name


def test_rules_scale_epsilon_and_branches(tiny_run):
    rule = hpt.rule("completep", 4).with_depth(1)
    train_config = dataclasses.replace(tiny_run.train, eps=1e-3)
    run = dataclasses.replace(tiny_run, parameterization=rule, train=train_config)
    model = build_model(run)
    groups = {id(p): group for group in rate_groups(model, run) for p in group["params"]}
    inside = groups[id(model.blocks[0].mlp.up.weight)]
    output = groups[id(model.blocks[0].mlp.down.weight)]
    assert inside["eps"] == pytest.approx(1e-3 / 4 / 2) and inside["lr"] == pytest.approx(run.train.lr / 4)
    assert output["eps"] == pytest.approx(1e-3 / 4) and output["lr"] == pytest.approx(run.train.lr / 4 / 2)
    flat = build_model(dataclasses.replace(run, parameterization=hpt.rule("completep", 4)))
    torch.testing.assert_close(model.blocks[1].mlp.down.weight, flat.blocks[1].mlp.down.weight / 2)


def test_what_could_not_end_is_refused_before_the_first_step(tmp_path, tiny_run, monkeypatch):
    monkeypatch.setattr(Training, "take_step", lambda *_: pytest.fail("a step was taken"))
    (tmp_path / "a.txt").write_text("some words of a text\n" * 500)
    data = DataConfig(source="files", path=str(tmp_path), vocab_size=300)
    model = dataclasses.replace(tiny_run.model, vocab_size=300)
    short = dataclasses.replace(tiny_run, data=data, model=model)
    for change in ({"validation_sequences": 10**6}, {"validation_sequences": 2**40}):
        with pytest.raises(DataError, match=r"held-out text.*windows"):
            train(dataclasses.replace(short, train=dataclasses.replace(short.train, **change)))
    wide = dataclasses.replace(tiny_run.model, width=2**20)
    with pytest.raises(
        ConfigError, match=r"(?s)width 1048576.* GB, and the cpu has .* GB.*width=\d+, which would fit"
    ):
        train(dataclasses.replace(tiny_run, model=wide), device="cpu")
    for change in ({"steps": 10**12}, {"batch_size": 2**40}, {"validation_sequences": 2**40}):
        large = dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, **change))
        with pytest.raises(ConfigError, match=r"takes at least .* GB"):
            train(large, device="cpu")
