"""Checked dataclasses: what they refuse and how they say so."""

import dataclasses
import pickle
from typing import Literal

import pytest
from pydantic import Field, model_validator

from hpt.config import config, from_dict, to_dict
from hpt.errors import ConfigError


@config
class Inner:
    width: int = Field(64, ge=8)
    kind: Literal["a", "b"] = "a"

    @model_validator(mode="after")
    def _together(self):
        if self.kind == "b" and self.width > 100:
            raise ValueError(f"kind 'b' stops at width 100, given {self.width}")
        return self


@config
class Outer:
    inner: Inner = Inner()
    rates: tuple[float, ...] = (1.0,)


def test_round_trip_hash_and_pickle():
    value = Outer(inner=Inner(width=9), rates=(0.5, 2.0))
    assert from_dict(Outer, to_dict(value)) == value == pickle.loads(pickle.dumps(value))
    assert hash(value) == hash(from_dict(Outer, to_dict(value))) and to_dict(value)["rates"] == [0.5, 2.0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.rates = ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Inner(widht=9), ["widht", "did you mean 'width'", "9"]),
        (lambda: Inner(width=2), ["Inner.width = 2", "greater than or equal to 8"]),
        (lambda: Inner(kind="c"), ["'c'", "'a' or 'b'"]),
        (lambda: Inner(width="wide"), ["Inner.width = 'wide'", "integer"]),
        (lambda: Inner(7), ["keywords only", "Inner(width=…)"]),
        (lambda: Inner(kind="b", width=200), ["Inner: kind 'b' stops at width 100, given 200"]),
        (lambda: Outer(rates=(float("nan"),)), ["rates.0", "finite"]),
        (
            lambda: from_dict(Outer, {"inner": {"width": 9, "knid": "a"}}),
            ["inner.knid", "did you mean 'kind'"],
        ),
        (lambda: from_dict(Outer, {"inner": {"width": 1}}), ["inner.width = 1"]),
        (lambda: dataclasses.replace(Inner(), width=3), ["Inner.width = 3"]),
    ],
    ids=range(10),
)
def test_refusals_name_value_and_way_out(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert all(word in str(error.value) for word in words)
