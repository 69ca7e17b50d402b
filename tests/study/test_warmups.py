"""The stress test: shorter warm-ups of the same runs."""

import dataclasses

from hpt.study.profiles import load_profile
from hpt.study.warmups import warmup_studies


def test_shorter_warmups_of_the_same_runs():
    quick = load_profile("quick")
    studies = warmup_studies(quick)
    assert [study.base.train.warmup_steps for study in studies] == [7, 20, 60]
    runs = [run for study in studies for run in study.plan({})]
    assert len(set(runs)) == 9 and {run.model.width for run in runs} == {64}
    # With the study's own warm-up they are the study's own runs.
    every = dataclasses.replace(quick, search="grid").plan({})
    assert set(studies[-1].plan({})) < set(every) and not set(studies[0].plan({})) & set(every)
    assert all(
        set(study.plan(dict.fromkeys(study.plan({}), 3.0))) == set(study.plan({})) for study in studies
    )


def test_a_warmup_of_a_few_steps_is_not_shortened_below_one(tiny_study):
    assert [s.base.train.warmup_steps for s in warmup_studies(tiny_study)] == [1, 2]
    assert {p.name for s in warmup_studies(tiny_study, ["μP"]) for p in s.parameterizations} == {"μP"}
