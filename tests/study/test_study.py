"""Studies: the plan, resuming after real kills, two at once, damaged records."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

import hpt
from hpt.config import from_dict, to_dict
from hpt.errors import ConfigError, DamagedRecordWarning
from hpt.runs.store import Store
from hpt.study.study import Study

TIMES = ["seconds", "tokens_per_second"]
RUN = """
import json, sys
from hpt.config import from_dict
from hpt.study.study import Study
if __name__ == "__main__":
    study = from_dict(Study, json.loads(sys.argv[1]))
    study.run(sys.argv[2], workers=2, stack=False).to_pickle(sys.argv[3])
"""


def start(tmp_path, study, store, out="table"):
    script = tmp_path / "study.py"
    script.write_text(RUN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HPT_HEADLESS": "1"}
    with (tmp_path / f"{out}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, script, json.dumps(to_dict(study)), store, tmp_path / out],
            env=environment,
            start_new_session=True,
            stdout=log,
        )


def same_table(a, b):
    pd.testing.assert_frame_equal(a.drop(columns=TIMES), b.drop(columns=TIMES))


def test_run_resumes_and_only_trains_what_is_missing(tmp_path, tiny_study, capsys):
    first = tiny_study.run(tmp_path, workers=1)
    assert "12 to run" in capsys.readouterr().out
    store = Store(tmp_path)
    removed = first["run_id"].iloc[[0, 5]]
    for run_id in removed:
        (tmp_path / "records" / f"{run_id}.json").unlink()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    same_table(tiny_study.run(tmp_path, workers=1), first)
    assert capsys.readouterr().out.count(" loss ") == 2
    assert all((tmp_path / "records" / name).stat().st_mtime_ns == t for name, t in kept.items())
    same_table(tiny_study.run(store, workers=1), first)
    assert "to run" not in capsys.readouterr().out
    assert [r.run_id for r in tiny_study.results(store)] == first["run_id"].tolist()
    assert set(tiny_study.select(["μP"], [8]).run(store)["width"]) == {8}


def test_kill_minus_nine_then_the_same_command_gives_the_same_table(tmp_path, tiny_study):
    study = dataclasses.replace(
        tiny_study,
        base=dataclasses.replace(tiny_study.base, train=dataclasses.replace(tiny_study.base.train, steps=40)),
    )
    expected = study.run(tmp_path / "undisturbed", workers=1, stack=False, quiet=True)
    records = tmp_path / "killed" / "records"
    for at_least in (2, 5):  # killed twice, at different depths
        process = start(tmp_path, study, tmp_path / "killed")
        deadline = time.monotonic() + 1500
        while len(list(records.glob("*.json"))) < at_least and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until_gone(process.pid)
    before = len(list(records.glob("*.json")))
    assert 5 <= before < len(expected)
    last = start(tmp_path, study, tmp_path / "killed", "table")
    assert last.wait(2000) == 0
    assert f"{before} done" in (tmp_path / "table.log").read_text()
    same_table(pd.read_pickle(tmp_path / "table"), expected)


def wait_until_gone(group, seconds=60):
    """Workers must not outlive their parent: the whole process group ends by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("a worker outlived its killed parent")


def test_a_killed_worker_costs_its_run_alone(tmp_path, tiny_study):
    study = dataclasses.replace(
        tiny_study,
        base=dataclasses.replace(tiny_study.base, train=dataclasses.replace(tiny_study.base.train, steps=60)),
    )
    process = start(tmp_path, study, tmp_path / "store")
    records = tmp_path / "store" / "records"
    while not list(records.glob("*.json")) and process.poll() is None:
        time.sleep(0.005)
    workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    workers[0].kill()
    assert process.wait(2000) == 0
    assert len(pd.read_pickle(tmp_path / "table")) == len(list(records.glob("*.json")))


def test_two_at_once_share_a_store(tmp_path, tiny_study):
    pair = [start(tmp_path, tiny_study, tmp_path / "store", f"table{i}") for i in range(2)]
    assert [p.wait(2000) for p in pair] == [0, 0]
    same_table(pd.read_pickle(tmp_path / "table0"), pd.read_pickle(tmp_path / "table1"))
    assert not list((tmp_path / "store" / "records").glob("*.tmp"))
    assert len(pd.read_pickle(tmp_path / "table0")) == len(list((tmp_path / "store" / "records").iterdir()))


def test_a_damaged_record_is_run_again(tmp_path, tiny_study):
    first = tiny_study.run(tmp_path, workers=1, quiet=True)
    file = tmp_path / "records" / f"{first['run_id'].iloc[3]}.json"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.warns(DamagedRecordWarning):
        again = tiny_study.run(tmp_path, workers=1, quiet=True)
    same_table(again, first)
    assert file.exists()


def test_an_interrupt_while_writing_leaves_no_record(tmp_path, tiny_study):
    table = tiny_study.run(tmp_path, workers=1, quiet=True)
    run_id = table["run_id"].iloc[0]
    file = tmp_path / "records" / f"{run_id}.json"
    file.rename(file.with_suffix(".json.tmp"))  # what a kill between writing and renaming leaves
    assert run_id not in set(Store(tmp_path).run_ids())
    same_table(tiny_study.run(tmp_path, workers=1, quiet=True), table)


def test_studies_refuse_nonsense(tmp_path, tiny_study):
    with pytest.raises(ConfigError, match="no such part"):
        tiny_study.select(["SP+Attn"])
    with pytest.raises(ConfigError, match="evenly"):
        dataclasses.replace(tiny_study, log2_lrs={8: (-8, -7, -5)})
    with pytest.raises(ConfigError, match="widths"):
        from_dict(Study, {**to_dict(tiny_study), "widths": [8]})


def test_rules_and_the_sixteen_mix(tmp_path, tiny_study):
    half = hpt.rule("sp").with_power(0.5)
    study = dataclasses.replace(
        tiny_study, parameterizations=("SP", "mup-table8", half), best_seeds=1, extend=0
    )
    assert from_dict(Study, json.loads(json.dumps(to_dict(study)))) == study
    part = study.select(["SP+Embd^0.5", "mup-table8"], [8])
    assert [p.name for p in part.parameterizations] == ["mup-table8", "SP+Embd^0.5"]
    table = part.run(tmp_path, workers=1, quiet=True)
    assert table["parameterization"].unique().tolist() == ["mup-table8", "SP+Embd^0.5"]
    assert study.select([half]).parameterizations == (half,)
    with pytest.raises(ConfigError, match="tell apart"):
        twin = half.with_laws("vector", lr=1.0, name=half.name)
        dataclasses.replace(study, parameterizations=(half, twin))


def test_the_cost_is_told_before_the_first_run(tmp_path, tiny_study, capsys):
    table = tiny_study.select(["SP"], [8]).run(tmp_path, workers=2)
    said = capsys.readouterr().out
    assert said.startswith("tiny: 0 done, 3 to run, then about 3 as the results ask; up to 1 more")
    assert "time    about" in said and "memory" in said and "disk" in said
    assert 5 <= len(table) <= 7


@pytest.mark.parametrize(
    "odd", [{"parameterizations": ()}, {"weight_decays": ()}, {"only": {8: (), 16: ()}}, {"seeds": 2**31}]
)
def test_a_study_of_no_runs_or_of_more_than_memory_holds_is_refused(tiny_study, odd):
    with pytest.raises(ConfigError, match=r"nothing is swept|less than or equal to 10000"):
        dataclasses.replace(tiny_study, **odd)
