"""Frozen, checked dataclasses: unknown keys and bad values are refused, with the nearest known
name."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, dataclass_transform

import pydantic

from hpt.errors import ConfigError, did_you_mean


def _explain(cls: type, error: pydantic.ValidationError) -> ConfigError:
    """The first complaint of pydantic, told as value, cause and corrected call."""
    first = error.errors()[0]
    path = [str(p) for p in first["loc"]]
    name, value = ".".join(path), first.get("input")
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        owner = cls
        for key in path[:-1]:
            owner = next((f.type for f in dataclasses.fields(owner) if f.name == key), owner)
            owner = owner if dataclasses.is_dataclass(owner) else cls
        names = [f.name for f in dataclasses.fields(owner)]
        return ConfigError(
            f"{cls.__name__} has no field {name!r} (given {value!r}).",
            "a misspelt name; " + did_you_mean(path[-1], names),
            f"{owner.__name__}({names[0]}=…, …) with fields: {', '.join(names)}",
        )
    subject = (
        f"{cls.__name__}.{name} = {value!r}" if name else cls.__name__
    )  # no name: fields that do not go together
    return ConfigError(
        f"{subject}: {first['msg'].removeprefix('Value error, ')}.",
        "",
        f"help(hpt.{cls.__name__}) lists each field with its range",
    )


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type) -> Any:
    """Make ``cls`` a frozen, keyword-only dataclass whose fields are checked on construction.

    Raises
    ------
    ConfigError: for an unknown field or a value of the wrong type or range.
    """
    checked = pydantic.dataclasses.dataclass(
        cls,
        frozen=True,
        kw_only=True,
        config=pydantic.ConfigDict(extra="forbid", allow_inf_nan=False),
    )
    build = checked.__init__

    @functools.wraps(build)
    def __init__(self, *args, **kwargs):
        if args:
            raise ConfigError(
                f"{cls.__name__} takes keywords only, given {args!r}.",
                remedy=f"{cls.__name__}({dataclasses.fields(cls)[0].name}=…)",
            )
        try:
            build(self, **kwargs)
        except pydantic.ValidationError as error:
            raise _explain(checked, error) from None

    checked.__init__ = __init__
    return checked


def to_dict(value: Any, *, changed_only: bool = False) -> dict[str, Any]:
    """A config as a plain dictionary of JSON types; ``changed_only`` leaves out its defaults."""
    return pydantic.TypeAdapter(type(value)).dump_python(
        value, mode="json", exclude_defaults=changed_only, serialize_as_any=True
    )


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of :func:`to_dict`; unknown keys are refused."""
    try:
        return pydantic.TypeAdapter(cls).validate_python(values)
    except pydantic.ValidationError as error:
        raise _explain(cls, error) from None
