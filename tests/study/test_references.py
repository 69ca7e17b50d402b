"""Reference studies: made, interrupted, gone on with, read on a machine with another text."""

import dataclasses
import json

import pandas as pd
import pytest

from hpt.errors import ConfigError, StoreError
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.runs.result import encode
from hpt.study import references as module
from hpt.study.profiles import load_profile
from hpt.study.references import FOLDER, make_reference, reference, reference_names, reference_parts

TINY = {
    "tiny": {
        "question": "Does it work?",
        "expected": {},
        "notebook": "00_tour",
        "parts": [
            {
                "arm": "a",
                "parameterizations": ["SP"],
                "log2_lrs": {"8": [-7, -6, -5]},
                "best_seeds": 1,
                "extend": 0,
            },
            {
                "arm": "b",
                "parameterizations": ["SP"],
                "log2_lrs": {"8": [-7, -6, -5]},
                "base": {"train": {"warmup_steps": 2}},
                "best_seeds": 1,
                "extend": 0,
            },
        ],
    }
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(module, "_file_of_definitions", lambda: TINY | {"rules": {}})
    return {"profile": "smoke"}


def test_sixteen_is_quick_with_all_parameterizations_and_more_seeds():
    quick = load_profile("quick")
    first, second = (part.study for part in reference_parts("sixteen"))
    wanted = dataclasses.replace(
        quick,
        name="sixteen",
        parameterizations=PARAMETERIZATIONS,
        search="grid",
        best_neighbours={},
        best_seeds=1,
    )
    assert first == wanted
    assert second == dataclasses.replace(wanted, seeds=2, best_seeds=3)
    assert set(first.plan({})) < set(second.plan({}))


def test_every_definition_is_a_study_of_a_notebook():
    for name in reference_names():
        assert all(part.study.name == name for part in reference_parts(name))
        assert module.reference_definition(name)["notebook"][:2].isdigit()


@pytest.mark.parametrize(
    "name", [name for name in reference_names() if (FOLDER / f"{name}.parquet").exists()]
)
def test_committed_studies_are_small_whole_and_say_how_they_were_made(name):
    found = reference(name)
    file = FOLDER / f"{name}.parquet"
    assert file.stat().st_size <= 5e6
    assert found.manifest["runs"] == len(
        {(a, r.run_id) for a, r in zip(found.arms, found.results, strict=True)}
    )
    assert all(result.run_id == result.config.run_id(result.data_fingerprint) for result in found.results)
    assert {result.data_fingerprint for result in found.results} == set(found.manifest["fingerprints"])
    assert all(
        {"date", "processor", "cores", "torch", "git", "seconds"} <= made.keys()
        for made in found.manifest["made"]
    )
    assert set(found.table["origin"]) == {"reference"} and len(found.table) == len(found.results)


def test_a_study_is_made_read_and_gone_on_with(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "reference"
    monkeypatch.setattr(module.Study, "run", _interrupted_after(1, module.Study.run))
    with pytest.raises(KeyboardInterrupt):
        make_reference("tiny", folder=folder, quiet=True, workers=1, **tiny)
    half = reference("tiny", folder=folder, **tiny)
    assert (half.manifest["runs"], half.manifest["planned"], half.complete) == (3, 6, False)
    monkeypatch.undo()
    monkeypatch.setattr(module, "_file_of_definitions", lambda: TINY | {"rules": {}})
    # Packed runs are not trained again, though their records are gone.
    for record in (folder / "records").iterdir():
        record.unlink()
    whole = make_reference("tiny", folder=folder, quiet=True, workers=1, **tiny)
    assert whole.complete and whole.arms == ("a",) * 3 + ("b",) * 3
    assert whole.results[0].train_loss.tobytes() == half.results[0].train_loss.tobytes()
    assert [made["runs"] for made in whole.manifest["made"]] == [3, 3]
    assert set(whole.arm("b").table["arm"]) == {"b"}
    assert "6 of 6 runs" in str(whole)
    with pytest.raises(ConfigError, match="no arm 'c'"):
        whole.arm("c")
    # The same runs in other packs, from a slower machine, change nothing.
    for record in (folder / "records").iterdir():
        record.unlink()
    slower = [dataclasses.replace(result, seconds=result.seconds + 9) for result in whole.results]
    rows = [result.row() | {"record": encode(result).decode()} for result in slower]
    for name in ("another", "yet another"):
        pd.DataFrame(rows).to_parquet(folder / f"{name}.parquet")
    files = {file: file.read_bytes() for file in folder.glob("*.*")}
    make_reference("tiny", folder=folder, quiet=True, workers=1, **tiny)
    assert {file: file.read_bytes() for file in folder.glob("*.*")} == files
    # Another text: read all the same, and not mixed with other runs.
    monkeypatch.setattr(module, "load", lambda _: type("Text", (), {"fingerprint": "0" * 64, "facts": {}}))
    assert reference("tiny", folder=folder, **tiny).manifest["runs"] == 6
    with pytest.raises(StoreError, match="other than this machine"):
        make_reference("tiny", folder=folder, **tiny)


def _interrupted_after(count, run):
    """The method, interrupted at its call after the first ones."""
    calls = iter(range(count))

    def interrupted(*args, **kwargs):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return run(*args, **kwargs)

    return interrupted


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="sixteen"):
        reference("sixten")
    with pytest.raises(StoreError, match="make reference NAMES=sixteen"):
        reference("sixteen", folder=tmp_path)
    (tmp_path / "sixteen.json").write_text(json.dumps({}))
    (tmp_path / "sixteen.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="damaged"):
        reference("sixteen", folder=tmp_path)
