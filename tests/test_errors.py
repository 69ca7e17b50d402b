"""What an error says, and that it arrives."""

import pickle

import pytest

from hpt import errors
from hpt.errors import ConfigError, HptError, did_you_mean


def test_errors_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(ConfigError("what", "cause", "remedy")))
    assert str(error) == "what\n  likely cause: cause\n  try: remedy" and isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("what",), "what"),
        (("what", "cause"), "what\n  likely cause: cause"),
        (("what", "", "remedy"), "what\n  try: remedy"),
    ],
)
def test_an_error_says_what_there_is_to_say(parts, text):
    assert str(HptError(*parts)) == text


def test_every_error_can_be_caught_as_hpts_own():
    kinds = [kind for name, kind in vars(errors).items() if name.endswith(("Error", "Warning"))]
    assert len(kinds) > 10
    for kind in kinds:
        base = UserWarning if kind.__name__.endswith("Warning") else HptError
        assert kind.__doc__ and issubclass(kind, base)


def test_the_nearest_name_is_meant_and_all_are_shown_where_none_is_near():
    assert did_you_mean("widht", ["width", "depth"]) == "did you mean 'width'?"
    assert did_you_mean("x", ["width", "depth"]) == "known: width, depth"
