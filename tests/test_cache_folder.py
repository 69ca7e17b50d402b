"""Values kept in the cache folder: found once, and anew when what they depend on changes."""

import pytest

from hpt.cache_folder import cache_root, code_of, kept, write_whole
from hpt.model import transformer
from hpt.training import kernels


def test_a_value_is_found_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    found = []

    def find():
        found.append(len(found))
        return {"a": [1, len(found)]}

    assert kept("things", ["x", 1], find) == kept("things", ["x", 1], find) == {"a": [1, 1]}
    assert kept("things", ["x", 2], find) == {"a": [1, 2]} and kept("others", ["x", 1], find) == {"a": [1, 3]}
    assert len(found) == 3 and len(list(tmp_path.glob("things/*"))) == 2


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        kept("things", "x", lambda: 1 / 0)
    assert not list(tmp_path.rglob("*.*")) and kept("things", "x", lambda: 7) == 7


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "value"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second" and list(tmp_path.iterdir()) == [file]

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, b"third")
    assert file.read_bytes() == b"second"


def test_code_is_the_source():
    assert "class Gelu" in code_of(kernels) and code_of(kernels, transformer) == code_of(kernels) + code_of(
        transformer
    )


def test_the_users_cache_folder_comes_last(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path / "environment"))
    assert cache_root(tmp_path / "given") == tmp_path / "given"
    assert cache_root() == tmp_path / "environment"
    monkeypatch.delenv("HPT_CACHE_DIR")
    assert cache_root().name == "hpt"
