"""On a GPU: the checks of benchmarks/gpu.py, and that they can be made at all."""

import time

import gpu
import pytest
import torch


@pytest.mark.gpu
@pytest.mark.parametrize("check", gpu.CHECKS, ids=lambda check: check.__name__)
def test_on_cuda(check):
    check("cuda")


@pytest.mark.parametrize(
    "check", [gpu.who_diverges_disturbs_nobody, gpu.a_full_memory_halves_a_stack], ids=lambda c: c.__name__
)
def test_a_check_can_be_made(check, monkeypatch):
    """On a CPU, for a few steps, none of them compiled."""
    monkeypatch.setattr(gpu, "WAYS", (False,))
    short = [gpu.changed(run, run.seed, lr=run.train.lr, steps=8) for run in gpu.RUNS]
    monkeypatch.setattr(gpu, "RUNS", short)
    monkeypatch.setattr(gpu, "TINY", gpu.changed(gpu.TINY, steps=8))
    check("cpu")


def test_a_row_of_the_table(capsys):
    small, _ = gpu.SMALL
    (row,) = gpu.speeds([small], torch.device("cpu"), float("inf"), steps=3)
    assert row["ratio"] == pytest.approx(row["tokens_per_second"] / row["plain"]) and row["members"] == 3
    assert "width 16" in capsys.readouterr().out
    assert gpu.speeds([small], torch.device("cpu"), 0.0) == []


def test_a_row_that_fails_costs_no_other(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "plain_speed", lambda *_: 1 / 0)
    assert gpu.speeds(gpu.SMALL, torch.device("cpu"), float("inf"), steps=1) == []
    assert capsys.readouterr().out.count("FAILED") == 2


#: Stands for the script: says its part, fails at one and never ends at another.
PART = """
import sys, time
print(sys.argv[2], "says", flush=True)
time.sleep(600 if sys.argv[2] == "slow" else 0)
sys.exit(sys.argv[2] == "bad")
"""


def test_parts_run_side_by_side_and_end_in_time(monkeypatch, tmp_path, capsys):
    script = tmp_path / "part.py"
    script.write_text(PART)
    monkeypatch.setattr(gpu, "__file__", str(script))
    assert gpu.side_by_side(["good", "bad", "slow"], time.monotonic() + 5) == 2
    said = capsys.readouterr().out
    assert "good says" in said and "bad says" in said and "slow: no time was left" in said
