"""Frozen, checked dataclasses: unknown keys and bad values are refused, with the nearest known
name."""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Any, dataclass_transform

import pydantic

from hpt.errors import ConfigError, did_you_mean


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type) -> Any:
    """Make ``cls`` a frozen, keyword-only dataclass whose fields are checked on construction.

    Raises
    ------
    ConfigError: for an unknown field or a value of the wrong type or range.
    """
    checked = pydantic.dataclasses.dataclass(
        cls, frozen=True, kw_only=True, config={"extra": "forbid", "allow_inf_nan": False}
    )
    build = checked.__init__

    @functools.wraps(build)
    def __init__(self, *args, **kwargs):
        if args:
            first = next(iter(field_types(checked)))
            raise ConfigError(
                f"{cls.__name__} takes keywords only, given {args!r}.", remedy=f"{cls.__name__}({first}=…)"
            )
        try:
            build(self, **kwargs)
        except pydantic.ValidationError as error:
            raise _explained(error, checked) from None

    checked.__init__ = __init__
    return checked


def to_dict(value: Any, *, changed_only: bool = False) -> dict[str, Any]:
    """A config as a plain dictionary of JSON types; ``changed_only`` leaves out its defaults."""
    return _adapter(type(value)).dump_python(
        value, mode="json", exclude_defaults=changed_only, serialize_as_any=True
    )


def from_dict(cls: type, values: dict[str, Any]) -> Any:
    """The inverse of :func:`to_dict`.  Raises ConfigError for unknown keys or bad values."""
    try:
        return _adapter(cls).validate_python(values)
    except pydantic.ValidationError as error:
        raise _explained(error, cls) from None


@functools.cache
def _adapter(cls):
    return pydantic.TypeAdapter(cls)


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    types = typing.get_type_hints(cls)
    return {field.name: types[field.name] for field in dataclasses.fields(cls)}


def _explained(error, cls):
    """The first complaint of pydantic, told as value, cause and corrected call."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    what = cls.__name__
    cause = ""
    # There is no path where fields do not go together.
    if path:
        what += f".{path} = {first['input']!r}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        cause = f"a misspelt name; {_nearest_field(cls, *first['loc'])}"
    remedy = f"help(hpt.{cls.__name__}) lists each field with its range"
    return ConfigError(f"{what}: {first['msg'].removeprefix('Value error, ')}.", cause, remedy)


def _nearest_field(cls, *path):
    """The nearest names of fields to the last of a path."""
    *owners, name = path
    for owner in owners:
        cls = field_types(cls)[owner]
    return did_you_mean(name, field_types(cls))
