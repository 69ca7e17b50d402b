"""What a notebook trains beside a study: a shorter warm-up."""

import dataclasses

import pytest

from hpt.study.controls import warmup_studies
from hpt.study.profiles import load_profile


def test_a_shorter_warmup_of_the_same_runs():
    quick = load_profile("quick")
    studies = warmup_studies(quick)
    assert [study.base.train.warmup_steps for study in studies] == [7, 60]
    runs = [run for study in studies for run in study.plan({})]
    assert len(set(runs)) == 18 and {run.model.width for run in runs} == {64}
    assert {run.parameterization.name for run in runs} == {"SP", "SP+Embd", "μP"}
    # Two octaves apart, all within the grid.
    assert list(studies[0].log2_lrs[64]) == [-8, -6, -4]
    # With the study's own warm-up they are runs of its grid.
    every = dataclasses.replace(quick, search="grid").plan({})
    assert set(studies[-1].plan({})) < set(every) and not set(studies[0].plan({})) & set(every)
    assert all(
        set(study.plan(dict.fromkeys(study.plan({}), 3.0))) == set(study.plan({})) for study in studies
    )


def test_a_warmup_of_a_few_steps_is_not_shortened_below_one(tiny_study):
    assert [s.base.train.warmup_steps for s in warmup_studies(tiny_study, ["μP"])] == [1, 2]
    assert {p.name for s in warmup_studies(tiny_study, ["μP"]) for p in s.parameterizations} == {"μP"}


@pytest.mark.parametrize("profile", ["smoke", "quick", "gpu"])
def test_every_profile_has_one(profile):
    """Also where its widest models are of some parameterizations alone."""
    study = load_profile(profile).select(["SP", "SP+Embd", "μP"])
    assert {len(part.plan({})) for part in warmup_studies(study)} == {9}
