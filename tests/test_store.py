"""Run records: round trips, damage, locks, packing."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from hpt.errors import DamagedRecordWarning, StoreError
from hpt.store import Store
from hpt.training import train


@pytest.fixture
def result(tiny_run):
    return train(tiny_run)


def same(a, b):
    return np.array_equal(a.train_loss, b.train_loss, equal_nan=True) and {**vars(a), "train_loss": 0} == {
        **vars(b), "train_loss": 0}


def test_round_trip_to_the_bit(tmp_path, result):
    store = Store(tmp_path)
    assert result.run_id not in store and list(store.run_ids()) == []
    store.save(result)
    assert same(store.load(result.run_id), result) and list(store.run_ids()) == [result.run_id]
    assert len(store.table()) == 1


def test_a_diverged_run_keeps_its_infinities(tmp_path, result):
    diverged = dataclasses.replace(result, val_loss=float("inf"), diverged=True,
                                   train_loss=np.float32([3.5, 1e-8, np.nan]))
    Store(tmp_path).save(diverged)
    assert same(Store(tmp_path).load(diverged.run_id), diverged)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "swap", "binary"])
def test_a_damaged_record_is_set_aside(tmp_path, result, damage):
    store = Store(tmp_path)
    file = store.save(result)
    text = file.read_bytes()
    if damage == "swap":
        file.rename(file.with_name("0" * 20 + ".json"))
        file = file.with_name("0" * 20 + ".json")
    else:
        file.write_bytes({"truncate": text[: len(text) // 2], "flip": text.replace(b'"seed": 0', b'"seed": 7'),
                          "empty": b"", "binary": b"\x00\xff" * 40}[damage])
    with pytest.warns(DamagedRecordWarning, match=file.stem):
        assert store.load(file.stem) is None
    assert not file.exists() and file.with_suffix(".json.damaged").exists()
    assert list(store.run_ids()) == []


def test_a_record_is_plain_json(tmp_path, result):
    lines = Store(tmp_path).save(result).read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[1])["config"]["train"]["steps"] == 12


def test_packed_records_are_found_again(tmp_path, result):
    Store(tmp_path / "a").save(result)
    other = Store(tmp_path / "b")
    file = Store(tmp_path / "a").pack([result.run_id], tmp_path / "b" / "study.parquet")
    assert same(other.load(result.run_id), result)
    frame = pd.read_parquet(file)
    assert frame["loss"].tolist() == [result.val_loss] and frame["width"].tolist() == [16]


def test_a_lock_excludes(tmp_path):
    store = Store(tmp_path)
    with store.lock("x"), pytest.raises(TimeoutError):
        store.lock("x").acquire(timeout=0.05)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="run store"):
        Store(tmp_path / "file")
