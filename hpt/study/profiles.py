"""Named studies, from profiles.toml; single runs, from files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from hpt.config import from_dict
from hpt.errors import ConfigError, did_you_mean
from hpt.files import StrPath
from hpt.runs.run_config import read_values
from hpt.study.study import Study


def _read(file):
    ours = resources.files("hpt.study") / "profiles.toml"
    return read_values(ours if file is None else Path(file), "profiles")


def profile_names(file: StrPath | None = None) -> list[str]:
    """Names of the profiles, in their file's order."""
    return list(_read(file))


def load_profile(name: str, file: StrPath | None = None) -> Study:
    """The study of a profile: "smoke", "quick", "gpu", "paper", or one of your own file.

    Parameters
    ----------
    name: of the profile.
    file: a TOML file laid out like hpt/study/profiles.toml; by default that one.

    Raises
    ------
    ConfigError: for an unknown name, or a profile with an unknown field or a bad value.
    """
    profiles = _read(file)
    if not isinstance(name, str) or name not in profiles:
        raise ConfigError(
            f"no profile is named {name!r}.", did_you_mean(name, profiles), f"one of {', '.join(profiles)}"
        )
    values = profiles[name]
    if not isinstance(values, dict):
        raise ConfigError(
            f"the profile {name!r} is {values!r}.",
            "a value where a table of fields should be",
            f"[{name}] and its fields below, as in hpt/study/profiles.toml",
        )
    return from_dict(Study, {"name": name, **values})
