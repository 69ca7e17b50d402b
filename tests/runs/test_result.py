"""A run's record: to the bit and back, by older and newer versions of hpt."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

import hpt
from hpt.errors import StoreError
from hpt.parameterization.named_rules import rule
from hpt.runs.result import FORMAT, decode, encode
from hpt.training.loop import train


@pytest.fixture(scope="module")
def result(tiny_run):
    return train(tiny_run)


def same(a, b):
    equal = [np.array_equal(a.train_loss, b.train_loss, equal_nan=True)]
    return all(equal) and vars(a) | {"train_loss": 0} == vars(b) | {"train_loss": 0}


def sealed(values):
    """A record of these values, with its checksum."""
    body = json.dumps(values, sort_keys=True).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def opened(record):
    return json.loads(record.splitlines()[1])


def test_the_first_format_loads_to_the_bit(result):
    """It does not name its format, and knew neither this one's optimizer nor what else is new."""
    train_loss = np.float32([3.5, 1e-8, 0.1, np.nan])
    old = {
        **{f.name: getattr(result, f.name) for f in dataclasses.fields(result)},
        "config": result.config.to_dict(),
        "train_loss": [float(str(x)) for x in train_loss[:3]] + [None],
        "val_loss": None,
        "diverged": True,
    }
    del old["extra"], old["config"]["train"]["optimizer"]
    loaded = decode(sealed(old), result.run_id, "here")
    wanted = dataclasses.replace(result, val_loss=np.inf, diverged=True, train_loss=train_loss)
    assert same(loaded, wanted) and loaded.train_loss.dtype == np.float32
    assert same(decode(encode(loaded), result.run_id, "here"), wanted)


def test_a_field_that_the_record_lacks_takes_its_default(result):
    values = opened(encode(dataclasses.replace(result, threads=8)))
    del values["threads"], values["config"]["train"]["eps"], values["config"]["seed"]
    loaded = decode(sealed(values), result.run_id, "here")
    assert loaded.threads == 1 and loaded.config == result.config


def test_fields_of_a_newer_hpt_are_kept_and_written_again(result):
    values = opened(encode(result))
    values |= {"energy_joules": 3.5, "hosts": {"a": 1}}
    values["config"]["ema"] = {"decay": 0.9}
    for section in ("model", "data", "train", "parameterization"):
        values["config"][section]["later"] = [section]
    loaded = decode(sealed(values), result.run_id, "here")
    assert loaded.config == result.config and loaded.extra["config"]["data"] == {"later": ["data"]}
    changed = dataclasses.replace(loaded, seconds=7.0)
    assert opened(encode(changed)) == values | {"seconds": 7.0}


def test_a_newer_format_is_refused_by_name(result):
    values = opened(encode(result))
    assert values["format"] == FORMAT
    record = sealed(values | {"format": FORMAT + 1})
    with pytest.raises(StoreError, match=rf"(?s)here.* format {FORMAT + 1}.*newer hpt.*upgrade"):
        decode(record, result.run_id, "here")


def test_a_configuration_that_this_hpt_refuses_is_no_damage(result):
    values = opened(encode(result))
    values["config"]["train"]["optimizer"] = "later"
    with pytest.raises(StoreError, match=r"(?s)here.*optimizer = 'later'.*newer hpt"):
        decode(sealed(values), result.run_id, "here")


@pytest.mark.parametrize(
    "record", [b"", b"no checksum", sealed([1]), sealed({}), sealed({"run_id": "x", "config": 3})]
)
def test_what_is_no_record_is_damage(record):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)) as told:
        decode(record, "x", "here")
    assert not isinstance(told.value, StoreError)


def test_a_record_is_of_one_run(result):
    with pytest.raises(ValueError, match=f"it holds run {result.run_id}"):
        decode(encode(result), "0" * 20, "here")


def test_a_row_says_what_was_run_and_what_came_out(result):
    row = result.row()
    assert row["loss"] == result.val_loss and row["steps"] == 12 and row["run_id"] == result.run_id
    assert 2.0 ** row["log2_lr"] == row["lr"] == result.config.train.lr


def test_a_newer_field_of_a_rule_is_kept_too(result):
    run = dataclasses.replace(result.config, parameterization=rule("sp").with_power(0.5))
    run_id = run.run_id(result.data_fingerprint)
    values = opened(encode(dataclasses.replace(result, config=run, run_id=run_id)))
    values["config"]["parameterization"]["embedding"]["lr"]["depth"] = 0.5
    loaded = decode(sealed(values), run_id, "here")
    assert loaded.config == run and opened(encode(loaded)) == values


def test_a_name_of_no_characters_comes_back(result):
    """Names of files may be any bytes; the fast reader of JSON takes no half of a character."""
    data = hpt.DataConfig(source="files", path="/texts/\udce9t\udce9", vocab_size=300)
    model = dataclasses.replace(result.config.model, vocab_size=300)
    config = dataclasses.replace(result.config, data=data, model=model)
    odd = dataclasses.replace(result, config=config, run_id=config.run_id(result.data_fingerprint))
    assert same(decode(encode(odd), odd.run_id, "here"), odd)


@pytest.mark.parametrize("constant", [math.nan, math.inf])
@pytest.mark.parametrize("path", ["", "\udce9"])
def test_constants_that_are_no_numbers_are_damage(result, constant, path):
    values = opened(encode(result))
    values["config"]["data"]["path"] = path
    with pytest.raises(ValueError, match=r"invalid literal"):
        decode(sealed(values | {"seconds": constant}), result.run_id, "here")


def test_parts_that_records_share_are_not_confused(result):
    """Equal values of another type are another text: 1, 1.0 and true."""
    values = opened(encode(result))
    assert decode(sealed(values), result.run_id, "here").config == result.config
    for odd in (1.0, True):
        values["config"]["parameterization"]["base_width"] = odd
        loaded = decode(sealed(values), result.run_id, "here")
        assert loaded.config == result.config and type(loaded.config.parameterization.base_width) is int
    values["config"]["train"]["lr"] *= 2
    with pytest.raises(ValueError, match="of another run"):
        decode(sealed(values), result.run_id, "here")
