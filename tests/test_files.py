"""Files written whole or not at all, and told of before work is done for them."""

import os

import pytest

from hpt.errors import ConfigError
from hpt.files import check_file, environment, write_whole


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


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "value").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "value", b"new")
    assert (tmp_path / "precious").read_text() == "mine" and not (tmp_path / "value").is_symlink()


def test_a_file_that_cannot_be_written_is_told_before(tmp_path):
    for file in (tmp_path / "none/page", tmp_path):
        with pytest.raises(ConfigError, match="cannot write"):
            check_file(file)
    kept = tmp_path / "page"
    kept.write_text("mine")
    check_file(kept)
    check_file(tmp_path / "new")
    assert kept.read_text() == "mine" and list(tmp_path.iterdir()) == [kept]


def test_an_environment_is_put_back_and_nothing_else_of_it(monkeypatch):
    monkeypatch.setenv("HPT_A", "before")
    monkeypatch.delenv("HPT_B", raising=False)
    monkeypatch.delenv("HPT_C", raising=False)
    with pytest.raises(OSError), environment(HPT_A="inside", HPT_B="new"):
        assert (os.environ["HPT_A"], os.environ["HPT_B"]) == ("inside", "new")
        os.environ["HPT_C"] = "another's"
        raise OSError
    assert (os.environ["HPT_A"], os.environ.get("HPT_B"), os.environ["HPT_C"]) == (
        "before",
        None,
        "another's",
    )
