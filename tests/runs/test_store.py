"""Run records: round trips, damage, locks, packing."""

import dataclasses
import hashlib
import json
import os
import pickle
import textwrap

import fsspec
import numpy as np
import pandas as pd
import pytest
from fsspec.implementations.local import LocalFileSystem

from hpt.errors import DamagedRecordWarning, StoreError
from hpt.runs import store as stores
from hpt.runs.result import FORMAT, decode_row, encode
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
    with store.lock("0" * 20), pytest.raises(TimeoutError):
        store.lock("0" * 20).acquire(timeout=0.05)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="run store"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("url", ["s4://bucket/runs", "file:///proc/no/such"])
def test_a_url_that_cannot_be_used_is_told(url):
    with pytest.raises(StoreError, match=url) as told:
        Store(url)
    assert "s3fs" in str(told.value)


DOORS = {
    "load": Store.load,
    "in": Store.__contains__,
    "lock": Store.lock,
    "table": lambda store, run_id: store.table([run_id]),
    "pack": lambda store, run_id: store.pack([run_id], store.path / "x.parquet"),
    "save": lambda store, run_id: store.save(dataclasses.replace(DOORS["result"], run_id=run_id)),
}


@pytest.mark.parametrize(
    "run_id", ["../../settings", "", "0" * 19, "0" * 21, "0" * 19 + "G", "0" * 20 + "\n", None]
)
@pytest.mark.parametrize("door", ["load", "in", "lock", "table", "pack", "save"])
def test_what_is_no_run_id_passes_no_door(tmp_path, result, door, run_id):
    DOORS["result"] = result
    (tmp_path / "settings.json").write_text("mine")
    store = Store(tmp_path / "a/store")
    with pytest.raises(StoreError, match="is no run id"):
        DOORS[door](store, run_id)
    assert (tmp_path / "settings.json").read_text() == "mine"
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"settings.json"}


@pytest.mark.parametrize("url", [False, True])
def test_packed_rows_of_no_run_and_files_beside_records_are_left_out(tmp_path, result, url):
    folder = tmp_path / "store"
    Store(folder).save(result)
    (tmp_path / "settings.json").write_text("mine")
    (folder / "records/notes.json").write_text("mine")
    rows = {"run_id": ["../../settings", None, "0" * 20, result.run_id], "record": ["x", "x", None, "x"]}
    pd.DataFrame(rows).to_parquet(folder / "a.parquet")
    store = Store(folder.as_uri() if url else folder)
    with pytest.warns(DamagedRecordWarning, match=r"a\.parquet.* 3 of its rows left out"):
        assert store.table()["run_id"].tolist() == [result.run_id]
    assert (tmp_path / "settings.json").exists() and (folder / "records/notes.json").exists()


BAD_PACKS = {
    "truncated": lambda raw: raw[:500],
    "overwritten": lambda raw: raw[:100] + bytes(len(raw) - 1100) + raw[-1000:],
    "nothing": lambda raw: b"",
    "text": lambda raw: b"width,lr,loss\n",
}


@pytest.mark.parametrize("harm", [*BAD_PACKS, "foreign", "pipe", "folder", "link"])
def test_a_pack_that_cannot_be_read_is_left_out_with_a_warning(tmp_path, result, harm):
    store = Store(tmp_path)
    store.save(result)
    file = store.pack([result.run_id], tmp_path / "p.parquet")
    if harm in BAD_PACKS:
        file.write_bytes(BAD_PACKS[harm](file.read_bytes()))
    elif harm == "foreign":
        pd.DataFrame({"width": [1], "run_id": [2]}).to_parquet(file)
    else:
        file.unlink()
        {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: os.symlink("/dev/zero", path)}[harm](
            file
        )
    with pytest.warns(DamagedRecordWarning, match="p.parquet"):
        assert len(Store(tmp_path).table()) == 1
    with pytest.warns(DamagedRecordWarning, match="p.parquet"):
        assert Store(tmp_path).load("0" * 20) is None


def test_an_empty_pack_is_a_pack(tmp_path):
    store = Store(tmp_path)
    assert pd.read_parquet(store.pack([], tmp_path / "none.parquet")).empty
    assert Store(tmp_path).table().empty


def swapped(result, values):
    """Another run's configuration under this run's id, with a checksum that is right."""
    return altered(result, config=dataclasses.replace(result.config, seed=5).to_dict() | values)


FORGED = {
    "of another run": lambda r: swapped(r, {}),
    "of another run, and newer": lambda r: swapped(r, {"later": 3}),
    "loss is text": lambda r: altered(r, val_loss="3.0"),
    "loss is NaN": lambda r: altered(r, val_loss=float("nan")),
    "loss is infinite": lambda r: altered(r, val_loss=float("inf")),
    "no loss, not diverged": lambda r: altered(r, val_loss=None, diverged=False),
    "loss is true": lambda r: altered(r, val_loss=True),
    "loss is a list": lambda r: altered(r, val_loss=[3.0]),
    "curve is text": lambda r: altered(r, train_loss=["3.0", "2.0"]),
    "curve is nested": lambda r: altered(r, train_loss=[[3.0], [2.0]]),
    "curve holds NaN": lambda r: altered(r, train_loss=[3.0, float("nan")]),
    "curve is beyond float32": lambda r: altered(r, train_loss=[3.0, 1e300]),
    "device is a number": lambda r: altered(r, device=3),
    "seconds are text": lambda r: altered(r, seconds="3"),
    "tokens are a fraction": lambda r: altered(r, tokens=3.5),
    "diverged is a number": lambda r: altered(r, diverged=0),
    "fingerprint is missing": lambda r: altered(r, data_fingerprint=None),
    "a deep list": lambda r: resealed(b"[" * 100_000),
}


def resealed(body):
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("forgery", FORGED)
def test_a_right_checksum_does_not_make_a_record(tmp_path, result, forgery, packed):
    store, text = Store(tmp_path), FORGED[forgery](result)
    if packed:
        pack_text(tmp_path, result, text)
    else:
        store.save(result).write_bytes(text)
    # A row tells how many losses there are, and none of them.
    doors = [store.load] if "float32" in forgery else [store.load, lambda run_id: store.table([run_id])]
    for ask in doors:
        with pytest.warns(DamagedRecordWarning, match=f"{result.run_id} repeats"):
            found = ask(result.run_id)
        assert found is None or found.empty
        if not packed:
            file = tmp_path / "records" / f"{result.run_id}.json"
            assert not file.exists() and file.with_suffix(".json.damaged").read_bytes() == text
            file.write_bytes(text)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_no_record(tmp_path, result, kind):
    file = Store(tmp_path).save(result)
    file.unlink()
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](file)
    with pytest.warns(DamagedRecordWarning, match="set aside"):
        assert Store(tmp_path).load(result.run_id) is None
    assert not file.is_symlink() and not file.exists()


def test_planted_links_are_not_followed(tmp_path, result):
    store = Store(tmp_path / "store")
    (tmp_path / "victim").write_text("precious")
    for name in (f"{result.run_id}.json.tmp", f"{result.run_id}.json"):
        (tmp_path / "store/records" / name).symlink_to(tmp_path / "victim")
    (tmp_path / "store/locks").mkdir()
    (tmp_path / f"store/locks/{result.run_id}.lock").symlink_to(tmp_path / "victim")
    store.save(result)
    with pytest.raises(OSError), store.lock(result.run_id):
        pass
    assert (tmp_path / "victim").read_text() == "precious" and same(store.load(result.run_id), result)


DISK = """
    import os, pickle, sys, warnings
    from hpt.errors import StoreError
    from hpt.runs.store import Store
    warnings.simplefilter("ignore")
    disk, file = sys.argv[1:]
    result = pickle.load(open(file, "rb"))
    store = Store(f"{disk}/store")
    if MODE == "full":
        open(f"{disk}/filling", "wb", buffering=0).write(bytes(1 << 20))
    damaged = "0" * 20
    assert store.load(damaged) is None and len(store.table()) == 0
    for door in (store.check_writable, lambda: store.save(result)):
        try:
            door()
        except StoreError as error:
            print("told" if "disk" in str(error) else error)
    print(sorted(os.listdir(f"{disk}/store/records")))
"""


@pytest.mark.parametrize(
    ("mode", "aside"), [("full", f"['{'0' * 20}.json.damaged']"), ("read-only", f"['{'0' * 20}.json']")]
)
def test_a_disk_that_takes_nothing_is_told(run_on_small_disk, tmp_path, result, mode, aside):
    (tmp_path / "result").write_bytes(pickle.dumps(result))
    shell = (
        f"mkdir -p $DISK/store/records $DISK/store/locks && echo bad > $DISK/store/records/{'0' * 20}.json"
    )
    if mode == "read-only":
        shell += " && mount -o remount,ro $DISK"
    program = textwrap.dedent(DISK).replace("MODE", repr(mode))
    done = run_on_small_disk(program, tmp_path / "result", shell=shell, PYTHONPATH=os.getcwd())
    assert done.stdout.splitlines() == ["told", "told", aside], done.stderr


@pytest.mark.parametrize("url", ["memory://alone", "http://127.0.0.1:9/runs"])
def test_a_store_that_keeps_nothing_for_others_is_told(url):
    with pytest.raises(StoreError, match=r"keeps nothing|cannot (write|use)"):
        Store(url).check_writable()


def test_rows_of_many_records_are_kept_and_read_again_where_a_file_changed(tmp_path, result, monkeypatch):
    monkeypatch.setattr(stores, "MANY", 3)
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path / "cache"))
    store = Store(tmp_path / "store")
    for seed in range(5):
        config = dataclasses.replace(result.config, seed=seed)
        run_id = config.run_id(result.data_fingerprint)
        store.save(dataclasses.replace(result, config=config, run_id=run_id, seconds=float(seed)))
    table = store.table()
    assert sorted(table["seed"]) == [0, 1, 2, 3, 4] and set(table["steps"]) == {12}
    opened = []
    monkeypatch.setattr(stores, "decode_row", lambda *a: opened.append(a[1]) or decode_row(*a))
    pd.testing.assert_frame_equal(store.table(), table)
    assert not opened
    # Packed records count too.
    (tmp_path / "packed").mkdir()
    store.pack(store.run_ids(), tmp_path / "packed/all.parquet")
    for _ in range(2):
        pd.testing.assert_frame_equal(Store(tmp_path / "packed").table(), table)
    assert len(opened) == 5
    opened.clear()
    store.save(dataclasses.replace(store.load(run_id), seconds=7.0))
    assert sorted(store.table()["seconds"]) == [0, 1, 2, 3, 7] and opened == [run_id]
    file = tmp_path / "store/records" / f"{run_id}.json"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.warns(DamagedRecordWarning):
        assert len(store.table()) == 4


def test_a_row_is_that_of_the_whole_record(result):
    for losses in ([], [3.0], [3.0, np.nan, 1e-30]):
        one = dataclasses.replace(result, train_loss=np.float32(losses), device='"train_loss": [1, 2]')
        assert decode_row(encode(one), one.run_id, "here") == one.row()
    with pytest.raises(ValueError, match="checksum"):
        decode_row(encode(result).replace(b"12", b"13"), result.run_id, "here")
