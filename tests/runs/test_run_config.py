"""A run's identity: what moves it and what must not."""

import dataclasses
import hashlib

import pytest

from hpt.config import config, to_dict
from hpt.data.source import DataConfig
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization
from hpt.runs import run_config
from hpt.runs.run_config import RunConfig, run_decay, run_dose, run_steps
from hpt.runs.train_config import TrainConfig
from hpt.study.profiles import load_profile

FINGERPRINT = "f" * 64
SECTIONS = {
    "model": ModelConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "parameterization": Parameterization,
}


def test_ids_stay_what_they_were():
    """The profile quick as it first was, with its short warm-up."""
    quick = load_profile("quick")
    train = dataclasses.replace(quick.base.train, warmup_steps=8)
    base = dataclasses.replace(quick.base, train=train)
    study = dataclasses.replace(quick, base=base, parameterizations=PARAMETERIZATIONS)
    ids = "".join(c.run_id(FINGERPRINT) for c in study.plan({}))
    assert hashlib.sha256(ids.encode()).hexdigest().startswith("51bef3208680fb12")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_later_field_moves_no_id_while_it_has_its_default(tiny_run, section):
    """Both ways to add one: in a subclass, or in the class that a run's configuration names."""

    @config
    class Longer(SECTIONS[section]):
        later: int = 3

    @config
    class LongerRun(RunConfig):
        __annotations__ = {section: Longer}

    given = to_dict(getattr(tiny_run, section))
    for run_class in (RunConfig, LongerRun):
        runs = {
            value: run_class(**{**vars(tiny_run), section: Longer(**given, later=value)}) for value in (3, 4)
        }
        assert runs[3].run_id(FINGERPRINT) == tiny_run.run_id(FINGERPRINT)
        assert runs[4].run_id(FINGERPRINT) != tiny_run.run_id(FINGERPRINT)


def test_a_later_field_of_the_run_itself_moves_no_id_while_it_has_its_default(tiny_run):
    @config
    class LongerRun(RunConfig):
        later: Parameterization = Parameterization()

    same = LongerRun(**vars(tiny_run))
    other = LongerRun(**vars(tiny_run), later=Parameterization(embd=True))
    assert same.run_id(FINGERPRINT) == tiny_run.run_id(FINGERPRINT) != other.run_id(FINGERPRINT)


def test_a_field_that_is_gone_moves_no_id(tiny_run, monkeypatch):
    """It enters with the default that it had."""
    before = tiny_run.run_id(FINGERPRINT)
    frozen = run_config._frozen_fields()
    shorter = to_dict(tiny_run)
    assert shorter["model"].pop("qk_norm") is frozen["model"]["qk_norm"]
    monkeypatch.setattr(RunConfig, "to_dict", lambda self: shorter)
    assert tiny_run.run_id(FINGERPRINT) == before


def test_every_field_of_the_results_version_moves_the_id(tiny_run):
    changes = [
        {"seed": 1},
        {"parameterization": "μP"},
        {"train": dataclasses.replace(tiny_run.train, lr=1.0)},
        {"model": dataclasses.replace(tiny_run.model, qk_norm=True)},
        {"data": dataclasses.replace(tiny_run.data, language=1)},
    ]
    ids = [dataclasses.replace(tiny_run, **change).run_id(FINGERPRINT) for change in changes]
    ids += [tiny_run.run_id(FINGERPRINT), tiny_run.run_id("e" * 64)]
    assert len(set(ids)) == len(ids)


def test_config_round_trip_and_identity(tiny_run):
    assert RunConfig.from_dict(tiny_run.to_dict()) == tiny_run
    ids = {
        tiny_run.run_id("data"),
        tiny_run.run_id("other data"),
        dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, lr=0.5)).run_id("data"),
        dataclasses.replace(tiny_run, parameterization="mup").run_id("data"),
        dataclasses.replace(tiny_run, seed=9).run_id("data"),
    }
    assert len(ids) == 5
    with pytest.raises(ConfigError, match="stepz"):
        RunConfig.from_dict({"train": {"stepz": 5}})
    with pytest.raises(ConfigError, match="vocab_size"):
        dataclasses.replace(tiny_run, model=dataclasses.replace(tiny_run.model, vocab_size=64))


@pytest.mark.parametrize("budget", [{"steps": 40}, {"tokens_per_parameter": 2.0}])
@pytest.mark.parametrize("decay", ["coupled", "constant", "independent"])
def test_a_dose_is_what_all_steps_shrink_at_the_peak(tiny_run, decay, budget):
    """ηλT, and λT where the decay does not follow η; its λ, given as such, has that dose."""
    train = TrainConfig(lr=0.02, dose=0.3, decay=decay, warmup_steps=0, **budget)
    run = dataclasses.replace(tiny_run, train=train)
    eta = 1 if decay == "independent" else 0.02
    assert run_decay(run) * eta * run_steps(run) == pytest.approx(0.3)
    given = dataclasses.replace(train, dose=None, weight_decay=run_decay(run))
    assert run_dose(dataclasses.replace(run, train=given)) == pytest.approx(0.3) and run_dose(run) == 0.3
    assert run.run_id("") != dataclasses.replace(run, train=given).run_id("")
