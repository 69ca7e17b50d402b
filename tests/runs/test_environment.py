"""What a run was made with."""

from hpt.runs.environment import environment_facts


def test_environment_facts_name_what_matters():
    facts = environment_facts()
    assert list(facts) == ["date", "python", "torch", "hpt", "platform", "processor", "cores", "git"]
    assert all(facts.values()) and int(facts["cores"]) >= 1
