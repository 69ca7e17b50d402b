"""A run's identity: what moves it and what must not."""

import dataclasses
import hashlib
import json

import pytest

from hpt.config import config, to_dict
from hpt.data.source import DataConfig
from hpt.errors import ConfigError
from hpt.model.transformer import ModelConfig
from hpt.parameterization.named_rules import NAMED_RULES, rule
from hpt.parameterization.rules import PowerLaw, RoleLaws
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
    """The profile quick as it first was, with its short warm-up and its whole grid."""
    quick = load_profile("quick")
    train = dataclasses.replace(quick.base.train, warmup_steps=8)
    base = dataclasses.replace(quick.base, train=train)
    study = dataclasses.replace(quick, base=base, parameterizations=PARAMETERIZATIONS, search="grid")
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

    @config
    class Longer(SECTIONS["model"]):
        gone: int = 3

    @config
    class LongerRun(RunConfig):
        model: Longer

    frozen = run_config._frozen_fields(run_config.RESULTS_VERSION)
    with_gone = run_config.merged(frozen, {"model": {"gone": 3}})
    monkeypatch.setattr(run_config, "_frozen_fields", lambda version: with_gone)
    given = vars(tiny_run.model)
    longer = [LongerRun(**{**vars(tiny_run), "model": Longer(**given, gone=value)}) for value in (3, 4)]
    assert longer[0].run_id(FINGERPRINT) == tiny_run.run_id(FINGERPRINT)
    # A record that has it is of the run that it was of.
    later = {"model": {"gone": 4}}
    assert longer[1].run_id(FINGERPRINT) == tiny_run.run_id(FINGERPRINT, later=later)


def test_defaults_are_those_of_the_results_version():
    """A field that has its default enters an id with that of the version."""
    run = RunConfig(train=TrainConfig(steps=10))
    frozen = run_config._frozen_fields(run_config.RESULTS_VERSION)
    frozen = run_config.merged(frozen, {"train": {"steps": 10}})
    now = run.to_dict()
    for section in SECTIONS:
        same = now[section].keys() & frozen[section].keys()
        assert {name: now[section][name] for name in same} == {name: frozen[section][name] for name in same}
    assert now["seed"] == frozen["seed"]


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


RULES = [*NAMED_RULES.values(), rule("sp").with_power(0.5), rule("mup", 8).with_last_base(1).with_depth(2)]


@pytest.mark.parametrize("own", RULES, ids=lambda own: own.name)
def test_a_rule_survives_json_and_has_an_identity_of_its_own(tiny_run, own):
    run = dataclasses.replace(tiny_run, parameterization=own)
    again = RunConfig.from_dict(json.loads(json.dumps(run.to_dict())))
    assert again == run and again.run_id("") == run.run_id("") and hash(again) == hash(run)
    others = [dataclasses.replace(tiny_run, parameterization=p) for p in (*PARAMETERIZATIONS, *RULES)]
    assert sum(other.run_id("") == run.run_id("") for other in others) == 1
    if own.name in NAMED_RULES:
        assert dataclasses.replace(tiny_run, parameterization=own.name.upper()) == run


def test_every_field_of_a_rule_moves_the_id_and_words_do_not(tiny_run):
    own = rule("sp").with_power(0.5)
    changes = [
        {"name": "another"},
        {"lr_is": "base"},
        {"attention": "1/d_head"},
        {"attention_at_base": True},
        {"base_width": 2},
        {"depth_power": 1.0},
        {"base_depth": 2},
    ]
    law = PowerLaw(fan_in=0.25)
    for role in ("hidden", "readout", "embedding", "vector", "fixed"):
        laws = ("std", "lr", "multiplier", "decay", "eps")
        changes += [{role: dataclasses.replace(getattr(own, role), **{name: law})} for name in laws]
    changes += [
        {"hidden": RoleLaws(std=PowerLaw(**{name: 0.3}))} for name in ("fan_in", "fan_out", "m", "constant")
    ]
    changed = [dataclasses.replace(own, **change) for change in [*changes, {}]]
    ids = {dataclasses.replace(tiny_run, parameterization=p).run_id("") for p in changed}
    assert len(ids) == len(changes) + 1
    words = dataclasses.replace(own, about="said otherwise", notes=("a note",))
    assert dataclasses.replace(tiny_run, parameterization=words).run_id("") in ids


def test_unknown_parameterizations_are_refused_by_name(tiny_run):
    for given, said in (
        ("sp+embdd", "sp\\+embdd"),
        ({"embdd": True}, "did you mean 'embd'"),
        ({"name": "x", "hiden": {}}, "did you mean 'hidden'"),
        (3, "parameterization"),
    ):
        with pytest.raises(ConfigError, match=said):
            dataclasses.replace(tiny_run, parameterization=given)
