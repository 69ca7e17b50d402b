"""Named studies, from profiles.toml; single runs, from files."""

from __future__ import annotations

import json
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from hpt.config import from_dict
from hpt.errors import ConfigError, did_you_mean
from hpt.runs.run_config import RunConfig
from hpt.study.study import Study


def _read(file: str | os.PathLike[str] | None) -> dict[str, Any]:
    try:
        text = resources.files("hpt.study").joinpath("profiles.toml") if file is None else Path(file)
        return tomllib.loads(text.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read configurations from {str(file)!r}: {error}.") from error


def load_run(file: str | os.PathLike[str]) -> RunConfig:
    """One run's configuration from a TOML file, or a JSON file as ``RunConfig.to_dict()`` gives it.

    Raises
    ------
    ConfigError: for a file that cannot be read, an unknown key or a bad value.
    """
    if Path(file).suffix != ".json":
        return RunConfig.from_dict(_read(file))
    try:
        return RunConfig.from_dict(json.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"cannot read a run from {str(file)!r}: {error}.") from error


def profile_names(file: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of the profiles, in their file's order."""
    return list(_read(file))


def load_profile(name: str, file: str | os.PathLike[str] | None = None) -> Study:
    """The study of a profile: "smoke", "quick", "gpu", or one of your own file.

    Parameters
    ----------
    name: of the profile.
    file: a TOML file laid out like hpt/study/profiles.toml; by default that one.

    Raises
    ------
    ConfigError: for an unknown name, or a profile with an unknown field or a bad value.
    """
    profiles = _read(file)
    if name not in profiles:
        raise ConfigError(f"no profile is named {name!r}.", did_you_mean(name, profiles),
                          "load_profile(one of " + ", ".join(map(repr, profiles)) + ")")
    return from_dict(Study, {"name": name, **profiles[name]})
