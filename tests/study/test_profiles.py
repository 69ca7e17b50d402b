"""Named studies: ours, and those of a file of one's own."""

import pytest

from hpt.errors import ConfigError
from hpt.study.profiles import load_profile, profile_names


def test_ours_are_valid():
    assert profile_names() == ["smoke", "quick", "gpu"]
    assert all(load_profile(name).name == name for name in profile_names())
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        load_profile("quikc")


def test_own_profiles_are_checked(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[mine]\nparameterizations = ["SP"]\n[mine.log2_lrs]\n16 = [-8, -7, -6]\n'
        "[mine.base.train]\nstepz = 4\n"
    )
    with pytest.raises(ConfigError, match="stepz"):
        load_profile("mine", file)
    with pytest.raises(ConfigError, match="cannot read"):
        load_profile("mine", tmp_path / "absent.toml")
