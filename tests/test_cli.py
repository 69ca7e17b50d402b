"""The command line: what it prints and how it fails."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import hpt
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.cli import main
from hpt.errors import ConfigError, StoreError
from hpt.parameterization.sixteen import Parameterization
from hpt.runs.run_config import load_run
from hpt.study.profiles import load_profile, profile_names


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_help_and_tables():
    assert all(command in run("--help").output for command in ("study", "notebooks", "transfer", "profiles"))
    assert "SP+Embd" in run("parameterizations").output


def test_profiles_are_valid_and_priced():
    shown = run("profiles").output
    assert profile_names() == ["smoke", "quick", "gpu", "paper"] and all(
        name in shown for name in profile_names()
    )
    paper = load_profile("paper")
    assert paper.widths == (128, 256, 512, 1024, 2048) and paper.base.model.depth == 12
    assert (
        paper.base.train.steps == 10_000 and paper.base.train.batch_size * paper.base.model.context == 2**18
    )


def test_an_unknown_profile_is_told():
    done = run("study", "--profile", "quikc")
    assert done.exit_code == 1 and "did you mean 'quick'" in done.output and "Traceback" not in done.output


def test_the_gpu_profile_does_not_start_on_a_cpu(tmp_path):
    done = run("study", "--profile", "gpu", "--store", str(tmp_path), "--device", "cpu")
    assert done.exit_code == 1 and "FLOPs" in done.output and "CUDA" in done.output


def test_transfer_reads_a_csv(tmp_path):
    synthetic_sweep(Law(), widths=(32, 64, 128, 256), noise=0.005, seeds=2, seed=0).to_csv(
        tmp_path / "sweep.csv"
    )
    done = run("transfer", str(tmp_path / "sweep.csv"), "--width", "1024")
    assert done.exit_code == 0 and "E (nats)" in done.output and "1024" in done.output


def test_transfer_takes_any_columns_rows_and_scale(tmp_path):
    table = synthetic_sweep(Law(), noise=0.005).rename(
        columns={"width": "N", "loss": "how_bad", "lr": "rate"}
    )
    table = table.drop(columns=["log2_lr", "diverged"])
    logs = [table.assign(depth=d, step=s) for d in (2, 4) for s in (1, 2)]
    path = tmp_path / "logs.csv.gz"
    pd.concat(logs).to_csv(path, index=False, sep=";")
    named = ("--scale", "N", "--lr", "rate", "--loss", "how_bad")
    refused = run("transfer", str(path), *named)
    assert refused.exit_code == 1 and "'depth', 'step' varies" in refused.output
    chosen = ("--fix", "step=last", "--by", "depth", "--octaves", "0.01", "--width", "4096")
    done = run("transfer", str(path), *named, *chosen)
    assert done.exit_code == 0 and "too wide to decide" in done.output and "4096" in done.output
    for wrong in (("--width", "0"), ("--fix", "step"), ("--octaves", "0")):
        assert run("transfer", str(path), *named, *wrong).exit_code == 2


def test_transfer_tells_a_bad_table(tmp_path):
    (tmp_path / "bad.csv").write_text("width,lr,loss\n32,-1,3\n64,0.1,3\n")
    done = run("transfer", str(tmp_path / "bad.csv"))
    assert done.exit_code == 1 and "lr" in done.output and "-1" in done.output


def test_a_run_is_read_from_json_and_from_the_toml_of_the_docs(tmp_path):
    point = load_profile("paper").run_config(Parameterization.parse("SP+Embd"), 2048, -13)
    (tmp_path / "run.json").write_text(json.dumps(point.to_dict()))
    page = (Path(__file__).parents[1] / "docs/wide_runs.md").read_text(encoding="utf-8")
    (tmp_path / "run.toml").write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert load_run(tmp_path / "run.json") == load_run(tmp_path / "run.toml") == point


def test_a_run_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "run.json").write_text('{"train": {"steps": 40}, "sead": 1}')
    done = run("wide", str(tmp_path / "run.json"))
    assert done.exit_code == 1 and "did you mean 'seed'" in done.output
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"cannot read a run from .*run\.json"):
        load_run(tmp_path / "run.json")


def test_wide_outside_torchrun_names_the_command(tmp_path, tiny_run):
    (tmp_path / "run.json").write_text(json.dumps(tiny_run.to_dict()))
    done = run("wide", str(tmp_path / "run.json"), "--device", "cpu", "--store", str(tmp_path))
    assert done.exit_code == 1 and "torchrun --nproc-per-node" in done.output


@pytest.mark.parametrize("place", ["no/such/table.csv", "file/table.csv", "."])
def test_a_table_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("hpt.study.study.Study.run", lambda *_, **__: pytest.fail("trained"))
    done = CliRunner().invoke(main, ["study", "--profile", "smoke", "--csv", str(tmp_path / place)])
    assert (
        done.exit_code in (1, 2)
        and "Traceback" not in done.output
        and not isinstance(done.exception, OSError)
    )


def test_an_unknown_executor_is_told_before_a_store_is_made(tmp_path):
    done = CliRunner().invoke(
        main, ["study", "--profile", "smoke", "--executor", "slurm", "--store", str(tmp_path / "store")]
    )
    assert done.exit_code == 1 and "no executor is named" in done.output and not (tmp_path / "store").exists()


def test_a_store_that_keeps_nothing_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(
        "hpt.study.executor_local.LocalExecutor.prepare", lambda *_, **__: pytest.fail("started")
    )
    study = hpt.load_profile("smoke")
    model = dataclasses.replace(study.base.model, vocab_size=64)
    data = hpt.DataConfig(source="synthetic", vocab_size=64)
    study = dataclasses.replace(study, base=dataclasses.replace(study.base, model=model, data=data))
    with pytest.raises(StoreError, match="keeps nothing"):
        study.run("memory://alone", quiet=True)


def test_a_report_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    notebooks = Path(__file__).parents[1] / "notebooks"
    monkeypatch.setattr("hpt.notebooks.main_job.run_together", lambda *_, **__: pytest.fail("trained"))
    arguments = [
        "notebooks",
        "--profile",
        "smoke",
        "--store",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path / "file/out"),
        "--source",
        str(notebooks),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1 and "the report cannot be written" in done.output


def test_ctrl_c_ends_with_a_line_and_status_130(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hpt.load_profile", interrupted)
    done = CliRunner().invoke(main, ["study"])
    assert done.exit_code == 130 and "interrupted; what is finished is kept" in done.output


@pytest.mark.parametrize("command", [["play", "--out"], ["play", "--picture"], ["replication", "--out"]])
def test_a_page_that_cannot_be_written_is_told_before_it_is_made(tmp_path, monkeypatch, command):
    """The other page of hpt play is in a folder that is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(hpt, "reference", None)
    monkeypatch.setattr("hpt.notebooks.replication.reference", None)
    done = CliRunner().invoke(main, [*command, str(tmp_path / "none/page")])
    assert done.exit_code == 1 and "cannot write" in done.output and not list((tmp_path / "docs").iterdir())
