"""Values kept in the cache folder: found once, and anew when what they depend on changes."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from hpt.cache_folder import cache_root, code_of, keep, kept, known_stand_in, look_up, scratch, writable
from hpt.errors import CacheWarning
from hpt.files import read_regular
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


HARM = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "flipped": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "unsealed": lambda raw: raw.partition(b"\n")[2],
    "binary": lambda raw: b"\0\xff" * 50,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_value_is_made_anew(tmp_path, monkeypatch, harm):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path / "new"))
    assert kept("memory", "x", lambda: 7) == 7 and (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (file,) = (tmp_path / "new/memory").iterdir()
    file.write_bytes(HARM[harm](file.read_bytes()))
    assert kept("memory", "x", lambda: 8) == 8 and kept("memory", "x", lambda: 9) == 8


def test_a_value_under_the_name_of_another_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    kept("memory", "x", lambda: 7)
    (file,) = (tmp_path / "memory").iterdir()
    kept("memory", "y", lambda: 8)
    (other,) = (f for f in (tmp_path / "memory").iterdir() if f != file)
    other.write_bytes(file.read_bytes())
    assert kept("memory", "y", lambda: 9) == 9


def test_pipes_links_and_folders_in_the_cache_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    kept("memory", "x", lambda: 7)
    (file,) = (tmp_path / "memory").iterdir()
    file.unlink()
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path), lambda path: None):
        make(file)
        assert kept("memory", "x", lambda: 7) == kept("memory", "x", lambda: 8) == 7
        with pytest.raises(OSError):
            read_regular(tmp_path)
        file.unlink()


@pytest.mark.parametrize("place", ["/proc/self/nosuch", "a file in the way"])
def test_a_cache_that_cannot_be_made_is_told_once_and_stops_nothing(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HPT_CACHE_DIR", place if place.startswith("/") else str(tmp_path / "file"))
    monkeypatch.setattr("atexit.register", lambda *_, **__: None)
    monkeypatch.setattr(
        "tempfile.mkdtemp", lambda **_: str((tmp_path / "instead").mkdir() or tmp_path / "instead")
    )
    with pytest.warns(CacheWarning, match="HPT_CACHE_DIR") as told:
        values = [kept("memory", key, lambda: 7) for key in "xyx"]
    assert values == [7, 7, 7] and len(told) == 1
    assert kept("memory", "x", lambda: 8) == 7 and known_stand_in() == tmp_path / "instead"


FULL = """
    import pathlib, sys, warnings
    from hpt.cache_folder import kept
    from hpt.data.source import DataConfig, load
    disk, text = map(pathlib.Path, sys.argv[1:])
    if FILL:
        (disk / "filling").write_bytes(bytes((1 << 20) - 6144))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [kept("memory", "x", lambda: 7) for _ in range(3)] == [7, 7, 7]
        source = load(DataConfig(source="files", path=str(text), vocab_size=300))
    assert load(DataConfig(source="files", path=str(text), vocab_size=300)).fingerprint == source.fingerprint
    print(len(told), told[0].category.__name__)
"""


@pytest.mark.parametrize(
    ("shell", "fill"), [("mount -o remount,ro $DISK", False), (":", True)], ids=["read-only", "full"]
)
def test_a_cache_on_a_disk_that_takes_nothing_stops_nothing(run_on_small_disk, tmp_path, shell, fill):
    (tmp_path / "a.txt").write_text("some words of text\n" * 300)
    program = textwrap.dedent(FULL).replace("FILL", str(fill))
    cache = {"HPT_CACHE_DIR": "/proc/self/cwd/cache"}
    done = run_on_small_disk(
        program, tmp_path, shell=f"{shell} && cd $DISK", **cache, TMPDIR=str(tmp_path), PYTHONPATH=os.getcwd()
    )
    assert done.stdout == "1 CacheWarning\n", done.stderr
    assert not list(tmp_path.glob("hpt-cache-*"))


def test_native_code_is_taken_from_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    folder = writable("programs", own=True)
    assert folder == tmp_path / "programs" and folder.stat().st_mode & 0o777 == 0o700
    keep(folder / "a", b"code")
    assert look_up("programs", "a", own=True) == b"code"
    for path, mode in ((folder / "a", 0o620), (folder / "a", 0o602), (folder, 0o777), (folder, 0o770)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert look_up("programs", "a", own=True) is None and look_up("programs", "a") == b"code"
        path.chmod(before)
    os.link(folder / "a", folder / "b")
    (folder / "c").symlink_to(folder / "a")
    assert look_up("programs", "b", own=True) is None and look_up("programs", "c", own=True) is None
    if os.geteuid() == 0:
        os.chown(folder / "a", 65534, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 1 << 20)
    assert look_up("programs", "a", own=True) is None


def test_a_folder_of_programs_that_others_may_write_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs").chmod(0o777)
    with pytest.warns(CacheWarning, match="others may write"):
        folder = writable("programs", own=True)
    assert folder.parent == known_stand_in() and folder.stat().st_mode & 0o777 == 0o700


def test_what_the_killed_left_is_swept_and_what_is_alive_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    folder = writable("programs", own=True)
    program = f"""
        import pathlib, time
        from hpt.cache_folder import scratch
        with scratch(pathlib.Path({str(folder)!r})) as made:
            print(made, flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    left = process.stdout.readline().strip()
    (folder / "tmpolder").mkdir()
    (folder / "x.part").mkdir()
    (folder / "value.json.0.tmp").touch()
    os.utime(folder / "value.json.0.tmp", (0, 0))
    (folder / "value.json.1.tmp").touch()
    with scratch(folder) as own:
        writable("programs", own=True)
        assert own.exists() and os.path.isdir(left)
        assert sorted(p.suffix for p in folder.iterdir() if p.suffix in (".part", ".tmp")) == [".tmp"]
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        writable("programs", own=True)
        assert own.exists() and not os.path.isdir(left)
    assert not own.exists() and not (folder / "tmpolder").exists()


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
