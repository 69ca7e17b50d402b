"""Checks that bring their own truth."""

from hpt.notebooks.exercises import check_function, check_prediction


def test_checks_encourage_and_never_raise(capsys):
    def double(x):
        return {1: 2.0, 2: [4.0]}[x]

    check_function(double, lambda x: 2 * x, [(1,), (2,)], "twice")
    assert "✓ double" in capsys.readouterr().out
    check_function(double, lambda x: 2 * x, [(3,)], "twice")
    assert "KeyError" in capsys.readouterr().out
    check_function(double, lambda x: 3 * x, [(1,)], "thrice")
    assert "expected 3" in (out := capsys.readouterr().out) and "hint: thrice" in out
    check_function(lambda x: ..., lambda x: x, [(1,)], "hint")
    assert "still yours" in capsys.readouterr().out
    for given, sign in ((None, "…"), ("up", "✓"), ("down", "✗")):
        check_prediction(given, "up", "because")
        assert sign in capsys.readouterr().out
