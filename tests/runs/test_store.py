"""Run records: round trips, damage, locks, packing."""

import dataclasses
import hashlib
import json

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem

from hpt.errors import DamagedRecordWarning, StoreError
from hpt.runs.result import FORMAT, encode
from hpt.runs.store import Store
from hpt.training.loop import train


@pytest.fixture
def result(tiny_run):
    return train(tiny_run)


def same(a, b):
    return np.array_equal(a.train_loss, b.train_loss, equal_nan=True) and {**vars(a), "train_loss": 0} == {
        **vars(b),
        "train_loss": 0,
    }


@pytest.fixture(params=["path", "file://", "memory://"])
def place(request, tmp_path):
    """Where a store may be: a path, a URL that can rename, one that cannot."""
    urls = {"file://": tmp_path.as_uri(), "memory://": f"memory:/{tmp_path.as_posix()}"}
    return urls.get(request.param, tmp_path)


def test_round_trip_to_the_bit(place, result):
    store = Store(place)
    assert result.run_id not in store and list(store.run_ids()) == []
    store.save(result)
    assert same(store.load(result.run_id), result) and list(store.run_ids()) == [result.run_id]
    with store.lock(result.run_id):
        store.save(dataclasses.replace(result, seconds=7.0))  # a second study's record of the same run
    assert store.load(result.run_id).seconds == 7.0 and len(Store(place).table()) == 1
    assert f"Store({str(place)!r}): 1 runs" == repr(store)


def test_a_diverged_run_keeps_its_infinities(tmp_path, result):
    diverged = dataclasses.replace(
        result, val_loss=float("inf"), diverged=True, train_loss=np.float32([3.5, 1e-8, np.nan])
    )
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
        file.write_bytes(
            {
                "truncate": text[: len(text) // 2],
                "flip": text.replace(b'"seed": 0', b'"seed": 7'),
                "empty": b"",
                "binary": b"\x00\xff" * 40,
            }[damage]
        )
    with pytest.warns(DamagedRecordWarning, match=file.stem):
        assert store.load(file.stem) is None
    assert not file.exists() and file.with_suffix(".json.damaged").exists()
    assert list(store.run_ids()) == []


@pytest.mark.parametrize("url", ["file://", "memory://"])
def test_a_damaged_record_behind_a_url_is_set_aside(tmp_path, result, url):
    store = Store(tmp_path.as_uri() if url == "file://" else f"memory:/{tmp_path.as_posix()}")
    file = store.save(result)
    fsspec.open(file, "wb").open().close()
    with pytest.warns(DamagedRecordWarning, match=result.run_id):
        assert result.run_id not in store
    assert list(store.run_ids()) == [] and fsspec.open(f"{file}.damaged").fs.exists(f"{file}.damaged")
    store.save(result)
    assert same(store.load(result.run_id), result)


def test_what_is_half_written_behind_a_url_is_no_record(tmp_path, result, monkeypatch):
    store = Store(tmp_path.as_uri())
    monkeypatch.setattr(
        LocalFileSystem, "mv", lambda *_: (_ for _ in ()).throw(OSError("killed before the rename"))
    )
    with pytest.raises(StoreError, match="killed before the rename"):
        store.save(result)
    assert list(store.run_ids()) == [] and len(list((tmp_path / "records").iterdir())) == 1


def test_a_record_is_plain_json(tmp_path, result):
    lines = Store(tmp_path).save(result).read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[1])["config"]["train"]["steps"] == 12


@pytest.mark.parametrize("url", [False, True])
def test_packed_records_are_found_again(tmp_path, result, url):
    Store(tmp_path / "a").save(result)
    other = Store((tmp_path / "b").as_uri() if url else tmp_path / "b")
    file = Store(tmp_path / "a").pack([result.run_id], tmp_path / "b" / "study.parquet")
    assert same(other.load(result.run_id), result)
    frame = pd.read_parquet(file)
    assert frame["loss"].tolist() == [result.val_loss] and frame["width"].tolist() == [16]


def altered(result, **values):
    """Its record with other values, and a checksum that is right."""
    body = json.dumps(json.loads(encode(result).splitlines()[1]) | values, sort_keys=True).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


def pack_text(folder, result, text):
    folder.mkdir(exist_ok=True)
    frame = pd.DataFrame({"run_id": [result.run_id], "record": [text.decode()]})
    frame.to_parquet(folder / "study.parquet")
    return folder / "study.parquet"


@pytest.mark.parametrize("packed", [False, True])
def test_a_record_of_a_newer_format_is_refused_and_left_alone(tmp_path, result, packed):
    store = Store(tmp_path)
    text = altered(result, format=FORMAT + 1)
    if packed:
        file = pack_text(tmp_path, result, text)
    else:
        file = store.save(result)
        file.write_bytes(text)
    before = file.read_bytes()
    for ask in (store.load, store.__contains__, lambda run_id: store.table([run_id])):
        with pytest.raises(StoreError, match=rf"(?s){file.name}.*format {FORMAT + 1}.*newer hpt"):
            ask(result.run_id)
    assert file.read_bytes() == before and list(store.run_ids()) == [result.run_id]


def test_what_a_newer_hpt_wrote_goes_through_a_pack(tmp_path, result):
    store, other = Store(tmp_path / "a"), Store(tmp_path / "b")
    store.save(result).write_bytes(altered(result, energy_joules=3.5))
    store.pack([result.run_id], tmp_path / "b/study.parquet")
    loaded = other.load(result.run_id)
    assert loaded.extra == {"energy_joules": 3.5} and len(other.table()) == 1
    other.save(loaded)
    assert Store(tmp_path / "b").load(result.run_id).extra == loaded.extra


def test_records_of_the_first_format_train_nothing_again(tmp_path, result):
    values = json.loads(encode(result).splitlines()[1])
    del values["format"], values["config"]["train"]["optimizer"]
    body = json.dumps(values, sort_keys=True).encode()
    text = hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"
    pack_text(tmp_path / "packed", result, text)
    Store(tmp_path / "plain").save(result).write_bytes(text)
    for folder in ("plain", "packed"):
        assert same(Store(tmp_path / folder).load(result.run_id), result)


def test_a_damaged_packed_record_is_told_and_its_run_repeats(tmp_path, result):
    text = encode(result).replace(b'"seed": 0', b'"seed": 7')
    file = pack_text(tmp_path, result, text)
    store = Store(tmp_path)
    with pytest.warns(DamagedRecordWarning, match=rf"{file.name}.*{result.run_id} repeats"):
        assert store.load(result.run_id) is None
    store.save(result)
    assert same(store.load(result.run_id), result) and file.exists()


def test_a_lock_excludes(tmp_path):
    store = Store(tmp_path)
    with store.lock("x"), pytest.raises(TimeoutError):
        store.lock("x").acquire(timeout=0.05)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="run store"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("url", ["s4://bucket/runs", "file:///proc/no/such"])
def test_a_url_that_cannot_be_used_is_told(url):
    with pytest.raises(StoreError, match=url) as told:
        Store(url)
    assert "s3fs" in str(told.value)
