"""Named studies: ours, and those of a file of one's own."""

import pytest

from hpt.errors import ConfigError
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.study.profiles import load_profile, profile_names


def test_ours_are_valid():
    assert profile_names() == ["smoke", "quick", "gpu", "paper"]
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


def test_gpu_is_all_sixteen_and_four_of_them_wider():
    study = load_profile("gpu")
    assert study.parameterizations == PARAMETERIZATIONS and study.base.data.source == "installed"
    by_width = {w: {str(p) for p, _, width in study.cells if width == w} for w in study.widths}
    assert {w: len(names) for w, names in by_width.items()} == {64: 16, 128: 16, 256: 16, 512: 16, 1024: 4}
    assert by_width[1024] == {"SP", "SP+Embd", "SP+Attn+Embd", "μP"}
    train, model = study.base.train, study.base.model
    assert train.steps * train.batch_size * model.context == 16_384_000
    assert train.warmup_steps / train.steps == 0.2 == load_profile("paper").base.train.decay_fraction
