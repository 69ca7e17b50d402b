import importlib.metadata
import itertools
import json
import os
import socket
import sys
from pathlib import PurePosixPath

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from hpt.data import corpus
from hpt.errors import DataError


def install(site, name, files, version="1.0", listed=None):
    """A package as pip leaves it: files, and a RECORD that lists them."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, content in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_bytes(content.encode())
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (files if listed is None else listed)))


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_installed_reads_the_listed_sources_and_nothing_else(site):
    install(
        site,
        "tiny",
        {
            "tiny/__init__.py": "patched",
            "tiny/a.py": "a = 1\r\n",
            "tiny/sub/__init__.py": "b = 2\n",
            "tiny/empty.py": "",
            "tiny/version.py": "v = 3",
            "tiny/note.txt": "no",
            "../bin/x.py": "no",
        },
    )
    (site / "tiny/stray.py").write_text("written by the user")
    found = corpus.installed(("tiny",))
    assert sorted(found.documents()) == ["a = 1\n", "b = 2\n"]
    assert found.facts == {"packages": {"tiny": "1.0"}}


@pytest.mark.parametrize(
    ("file", "stable"),
    [
        ("torch/nn/linear.py", True),
        ("six.py", True),
        ("numpy/lib/__init__.py", True),
        ("numpy/f2py/rules.py", True),
        ("numpy/__init__.py", False),
        ("numpy/__config__.py", False),
        ("torch/version.py", False),
        ("matplotlib/_version.py", False),
        ("scipy/_distributor_init.py", False),
        ("numpy/distutils/core.py", False),
        ("numpy/_core/umath.so", False),
        ("../../../bin/tool.py", False),
        ("/etc/x.py", False),
    ],
)
def test_sources_that_differ_by_platform_are_left_out(file, stable):
    assert corpus.is_stable_source(PurePosixPath(file)) == stable


def test_order_depends_on_names_alone(site):
    install(site, "one", {f"one/m{i}.py": f"one {i}" for i in range(30)})
    install(site, "two", {f"two/m{i}.py": f"two {i}" for i in range(30)})
    both = list(corpus.installed(("one", "two")).documents())
    assert both == list(corpus.installed(("two", "one")).documents())
    assert [text for text in both if text.startswith("one")] == list(corpus.installed(("one",)).documents())
    assert both != sorted(both) and not all(text.startswith("one") for text in both[:30])  # shuffled


def test_key_changes_with_the_version_and_the_list_of_files(site):
    install(site, "tiny", {"tiny/a.py": "a"})
    before = corpus.installed(("tiny",)).key
    assert corpus.installed(("tiny",)).key == before
    (site / "tiny-1.0.dist-info/RECORD").write_text("tiny/a.py,,\ntiny/b.py,,\n")
    assert corpus.installed(("tiny",)).key != before


def test_a_build_label_is_no_part_of_the_facts(site):
    install(site, "tiny", {"tiny/a.py": "a"}, version="2.1+cpu")
    assert corpus.installed(("tiny",)).facts == {"packages": {"tiny": "2.1"}}


def test_a_real_package_is_read_whole():
    files = [
        file for file in importlib.metadata.files("tqdm") if file.suffix == ".py" and file.parts[0] == "tqdm"
    ]
    texts = list(corpus.installed(("tqdm",)).documents())
    assert 20 < len(texts) < len(files)
    assert any("class tqdm" in text for text in texts)


def test_missing_packages_and_packages_without_a_list_of_files_are_named(site):
    with pytest.raises(DataError, match=r"(?s)'no-such-package', which is not installed.*packages="):
        corpus.installed(("no-such-package",))
    install(site, "bare", {}, listed=[])
    with pytest.raises(DataError, match=r"(?s)'bare' lists no Python sources.*RECORD"):
        corpus.installed(("bare",))


def write_parquet(path, texts, column="text"):
    pyarrow.parquet.write_table(pyarrow.table({column: texts, "id": list(range(len(texts)))}), path)


def write_jsonl(path, texts, column="text"):
    path.write_text(
        "".join(json.dumps({"id": i, column: text}) + "\n" for i, text in enumerate(texts)), "utf-8"
    )


def test_files_of_each_kind_and_a_folder_of_them(tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/no.txt").write_text("not this one")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "a.txt").write_bytes("\ufeffη line\r\nnext".encode())
    write_jsonl(tmp_path / "deep/b.jsonl", ["one", "", "two"])
    write_parquet(tmp_path / "deep/er/c.parquet", ["three", None, "four"])
    assert list(corpus.files(str(tmp_path / "a.txt")).documents()) == ["η line\nnext"]
    assert list(corpus.files(str(tmp_path / "deep/b.jsonl")).documents()) == ["one", "two"]
    assert list(corpus.files(str(tmp_path / "deep/er/c.parquet")).documents()) == ["three", "four"]
    folder = corpus.files(str(tmp_path))
    assert sorted(folder.documents()) == sorted(["η line\nnext", "one", "two", "three", "four"])
    assert folder.facts["files"] == 3 and list(folder.documents()) == list(folder.documents())


def test_another_column(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", ["one"], column="content")
    write_parquet(tmp_path / "c.parquet", ["two"], column="content")
    assert sorted(corpus.files(str(tmp_path), column="content").documents()) == ["one", "two"]


def test_key_of_files_changes_when_a_file_does(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    before = corpus.files(str(tmp_path)).key
    (tmp_path / "a.txt").write_text("more text than before")
    assert corpus.files(str(tmp_path)).key != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \n\n", "a.txt is empty"),
        ("a.txt", b"text\0text", "a.txt is not UTF-8 text: it holds NUL bytes"),
        ("a.txt", "naïve".encode("latin1"), "a.txt is not UTF-8"),
        ("a.csv", b"x,y", r"(?s)a.csv ends in '.csv'.*save it as one of .txt"),
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.jsonl", b'{"text": ""}\n', "a.jsonl is empty"),
        ("a.jsonl", b'{"text": "fine"}\n\n{"text": "cut', "a.jsonl, line 3 is not JSON"),
        (
            "a.jsonl",
            b'{"text": "fine"}\n{"body": "x"}\n',
            r"(?s)a.jsonl, line 2 has no text in the field 'text'.*body",
        ),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl, line 1 has no text"),
        ("a.jsonl", b'["text"]\n', r"(?s)a.jsonl, line 1.*it is a list"),
        ("a.jsonl", b'{"text": "fine"}\n\xff\n', "a.jsonl, line 2, is not UTF-8"),
        ("a.parquet", b"PAR1 but damaged", "a.parquet cannot be read"),
        ("a.parquet", b"", "a.parquet cannot be read"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(corpus.files(str(tmp_path / name)).documents())


def test_a_parquet_file_without_the_column_lists_what_it_has(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["x"], column="body")
    for column in ("text", "id"):
        with pytest.raises(
            DataError, match=r"(?s)a.parquet has no text in the column.*body \(string\), id \(int64\)"
        ):
            list(corpus.files(str(tmp_path / "a.parquet"), column=column).documents())


def test_missing_paths_broken_links_and_folders_without_text(tmp_path):
    with pytest.raises(DataError, match=r"(?s)There is no file or folder .*nowhere.*misspelt"):
        corpus.files(str(tmp_path / "nowhere"))
    (tmp_path / "only.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"(?s)holds no text.*\.png.*\.jsonl"):
        corpus.files(str(tmp_path))
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"link\.txt cannot be read"):
        corpus.files(str(tmp_path))


def test_hub_without_the_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "hpt\[hub\]"'):
        next(corpus.hub("HuggingFaceFW/fineweb-edu", "sample-10BT", "train", "text", None).documents())


@pytest.fixture
def offline(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pytest.importorskip("datasets")
    folder = tmp_path / "dataset"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("write", "suffix"), [(write_jsonl, "jsonl"), (write_parquet, "parquet")])
def test_hub_streams_a_local_folder(offline, write, suffix):
    write(offline / f"train.{suffix}", ["first text", "", "second text"])
    found = corpus.hub(str(offline), None, "train", "text", None)
    assert list(found.documents()) == ["first text", "second text"]
    write(offline / f"train.{suffix}", ["another, longer text"])
    assert corpus.hub(str(offline), None, "train", "text", None).key != found.key


@pytest.mark.parametrize(
    ("split", "column", "message"),
    [
        ("train", "body", r"(?s)no text in the column 'body'.*its columns: id, text"),
        ("test", "text", r"(?s)split 'test'\) cannot be read.*misspelt"),
    ],
)
def test_hub_errors_name_the_dataset(offline, split, column, message):
    write_jsonl(offline / "train.jsonl", ["a text"])
    with pytest.raises(DataError, match=message):
        list(corpus.hub(str(offline), None, split, column, None).documents())


KINDS = ["pipe", "device", "socket", "link to itself", "link to nothing", "link out"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_no_file_of_the_folder_is_refused_by_name(tmp_path, monkeypatch, kind, alone):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("words " * 500)
    (tmp_path / "secret.txt").write_text("mine " * 500)
    odd = folder / "odd.txt"
    targets = {
        "device": "/dev/zero",
        "link to itself": odd,
        "link to nothing": tmp_path / "none",
        "link out": tmp_path / "secret.txt",
    }
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            monkeypatch.chdir(folder)
            bound.bind(odd.name)
    else:
        odd.symlink_to(targets[kind])
    if alone and kind == "link out":
        pytest.skip("a file that is named itself may be a link")
    with pytest.raises(DataError, match=r"odd\.txt"):
        list(corpus.files(str(odd if alone else folder)).documents())
    if kind == "link out":
        assert any("mine" in text for text in corpus.files(str(folder), follow_links=True).documents())


def test_a_link_inside_the_folder_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("words " * 500)
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    assert len(list(corpus.files(str(tmp_path)).documents())) == 2


@pytest.mark.parametrize("text", ["nul \0 inside", "half \ud800 a pair"])
@pytest.mark.parametrize("packed", [False, True])
def test_text_that_is_none_is_refused_by_name(tmp_path, text, packed):
    if packed and "\0" not in text:
        pytest.skip("Parquet does not hold it")
    file = tmp_path / ("a.parquet" if packed else "a.jsonl")
    if packed:
        pyarrow.parquet.write_table(pyarrow.table({"text": [text]}), file)
    else:
        file.write_text(json.dumps({"text": text}))
    with pytest.raises(DataError, match=rf"{file.name} is not Unicode"):
        list(corpus.files(str(file)).documents())


def test_a_row_group_that_unfolds_to_gigabytes_is_read_in_slices(tmp_path):
    rows, file = 4000, tmp_path / "bomb.parquet"
    one = pyarrow.array(["x" * 1_000_000])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int32)), one)
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), file, store_schema=False)
    assert file.stat().st_size < 2_000_000
    before = pyarrow.total_allocated_bytes()
    seen = 0
    for text in itertools.islice(corpus.files(str(file)).documents(), 100):
        seen += len(text)
        assert pyarrow.total_allocated_bytes() - before < 200_000_000
    assert seen == 100_000_000
