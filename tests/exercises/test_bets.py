"""Bets: kept, scored, and shown only once they are made."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hpt.exercises import Bets


@pytest.fixture
def bets(tmp_path, monkeypatch):
    monkeypatch.delenv("HPT_HEADLESS", raising=False)
    return Bets(tmp_path / "runs" / "store")


def test_they_lie_beside_the_store_or_in_the_cache(tmp_path, monkeypatch):
    assert Bets(tmp_path / "store").path == tmp_path / "predictions.json"
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path / "cache"))
    assert Bets("s3://bucket/runs").path == Path(tmp_path / "cache" / "predictions.json")


def test_a_live_kernel_shows_the_result_after_the_bet(bets, capsys):
    bets.place("03.share", None)
    assert bets.reveal("03.share", 0.9, "because", show="figure") is None
    out = capsys.readouterr().out
    assert "bet first" in out and "0.9" not in out and "because" not in out
    assert bets.after("03.share", "table") is None
    assert not bets.path.exists()
    bets.place("03.share", (0.5, 1))
    assert bets.reveal("03.share", 0.9, "because", show="figure") == "figure"
    assert bets.after("03.share", "table") == "table"
    assert "✓ you bet 0.5 to 1; what came out: 0.9. because" in capsys.readouterr().out


def test_headless_shows_it_without(bets, capsys, monkeypatch):
    monkeypatch.setenv("HPT_HEADLESS", "1")
    bets.place("03.share", None)
    assert bets.reveal("03.share", 0.9, show="figure") == bets.after("03.share", "figure") == "figure"
    assert "no bet was made. What came out: 0.9" in capsys.readouterr().out
    assert not bets.path.exists()


def test_a_bet_holds_over_sessions_and_may_change_until_its_result_was_shown(bets, tmp_path, capsys):
    bets.place("a", (0, 1))
    bets.place("a", (2, 3))
    again = Bets(tmp_path / "runs" / "store")
    again.place("a", None)
    assert "your bet: 2 to 3" in capsys.readouterr().out
    again.reveal("a", 5.0)
    again.place("a", (4, 6))
    again.reveal("a", 5.0)
    assert capsys.readouterr().out.count("✗ you bet 2 to 3") == 2


@pytest.mark.parametrize(
    "bet",
    [
        torch.ones(2, 2),
        "0.5",
        0.5,
        (1,),
        (1, 2, 3),
        (1, 1),
        (0, np.inf),
        (np.nan, 1),
        ("a", "b"),
        {},
        [None, 1],
        True,
        "ab",
    ],
)
def test_what_is_no_interval_is_told_and_not_kept(bets, bet, capsys):
    bets.place("a", bet)
    assert "no bet here; (low, high)" in capsys.readouterr().out
    assert not bets.path.exists()


@pytest.mark.parametrize("bet", [(1, 2), [2.0, 1.0], np.array([1, 2]), ("1", "2"), {1, 2}])
def test_any_two_numbers_are_an_interval(bets, bet):
    bets.place("a", bet)
    assert json.loads(bets.path.read_text())["a"]["bet"] == [1.0, 2.0]


@pytest.mark.parametrize("bet", ["banana", 3, ("falls",), "", [1, 2]])
def test_a_bad_choice_is_told_with_the_good_ones(bets, bet, capsys):
    bets.place("a", bet, choices=["stays", "rises", "falls"])
    assert "one of stays, rises, falls" in capsys.readouterr().out
    assert not bets.path.exists()


def test_a_choice_is_read_whatever_its_case(bets, capsys):
    bets.place("a", " Falls", choices=["stays", "rises", "falls"])
    bets.reveal("a", "falls")
    assert "✓ you bet falls" in capsys.readouterr().out


@pytest.mark.parametrize("unknown", [None, np.nan])
def test_what_the_runs_do_not_tell_stays_open(bets, unknown, capsys, monkeypatch):
    bets.place("a", (0, 1))
    bets.reveal("a", unknown)
    assert "stays open" in capsys.readouterr().out
    monkeypatch.setenv("HPT_HEADLESS", "1")
    bets.reveal("b", unknown)
    assert "What came out: not run here" in capsys.readouterr().out
    assert bets.calibration().empty


def test_regrets_are_kept_beside_the_bets_and_count_as_none(bets):
    assert bets.regrets().empty
    bets.keep_regret("SP", pd.Series({"you": 0.5, "1/n": 0.1}))
    bets.keep_regret("SP", pd.Series({"you": 0.2, "1/n": 0.1}))
    bets.keep_regret("μP", {"you": 0.0, "1/n": 0.3})
    again = Bets(bets.path.with_name("store")).regrets()
    assert again.loc["SP"].to_dict() == {"you": 0.2, "1/n": 0.1} and list(again.index) == ["SP", "μP"]
    assert bets.calibration().empty


def test_calibration_is_the_shares_and_the_interval_score(bets):
    assert bets.calibration().empty
    bets.place("a", (1, 2), naive=(0, 4))  # held: 1 / 4
    bets.reveal("a", np.float32(1.5))
    bets.place("b", (1, 2), naive=(0, 2))  # missed by 1: (1 + 10) / (2 + 10)
    bets.reveal("b", 3)
    bets.place("c", "x", choices=["x", "y"])
    bets.reveal("c", "y")
    bets.place("d", (0, 9))  # no result yet
    table = bets.calibration()
    assert table["made"].to_dict() == {"80% interval": 2, "named choice": 1}
    interval = table.loc["80% interval"]
    assert interval["right"] == 0.5 and interval["knowing_nothing"] == 0.5
    assert interval["score_over_naive"] == pytest.approx((1 / 4 + 11 / 12) / 2)
    assert table.loc["named choice", ["right", "knowing_nothing"]].tolist() == [0, 0.5]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', "\x00"])
def test_a_file_that_is_none_is_set_aside_and_told(bets, content, capsys):
    bets.path.parent.mkdir(parents=True)
    bets.path.write_text(content)
    bets.place("a", (0, 1))
    assert "cannot be read" in capsys.readouterr().out
    assert bets.path.with_suffix(".damaged").read_text() == content
    bets.reveal("a", 0.5)
    assert "✓" in capsys.readouterr().out


def test_entries_that_are_none_of_ours_are_not_read(bets):
    bets.path.parent.mkdir(parents=True)
    bets.path.write_text('{"a": {"bet": 1}}')
    assert bets.calibration().empty


def test_where_nothing_can_be_written_a_bet_lasts_as_long_as_the_kernel(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HPT_HEADLESS", raising=False)
    (tmp_path / "file").write_text("")
    assert Bets("a\0b/store").calibration().empty
    bets = Bets(tmp_path / "file" / "store")
    bets.place("a", (0, 1))
    assert "kept in memory alone" in capsys.readouterr().out
    assert bets.reveal("a", 0.5, show="figure") == "figure"
    assert "✓ you bet 0 to 1" in capsys.readouterr().out and len(bets.calibration()) == 1
