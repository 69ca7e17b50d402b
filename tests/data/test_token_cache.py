import dataclasses
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from hpt.data import token_cache
from hpt.data.corpus import Corpus
from hpt.errors import DataError

SETTINGS = {"vocab_size": 300, "tokenizer": "bpe", "every": 10, "max_tokens": None}
TEXTS = [f"def f{i}(x):\n    return x + {i}  # document {i}\n" * 8 for i in range(40)]


def made(texts, key=0):
    return Corpus("made-up text", {"texts": key}, {"kind": "made up"}, lambda: iter(texts))


def build(root, texts=TEXTS, key=0, **changes):
    return token_cache.open_or_build(made(texts, key), SETTINGS | changes, root)


def test_tokens_decode_to_the_documents(tmp_path):
    source = build(tmp_path)
    train = source.decode(source.train).split("<|endoftext|>")
    held_out = source.decode(source.held_out).split("<|endoftext|>")
    assert train == [text for i, text in enumerate(TEXTS) if i % 10 != 9] + [""]
    assert held_out == [*TEXTS[9::10], ""]
    assert source.facts["train_documents"] == 36 and source.facts["validation_documents"] == 4
    assert source.facts["text_bytes"] == sum(map(len, TEXTS)) and source.facts["kind"] == "made up"
    assert source.train_tokens == len(source.train) == source.facts["train_tokens"]
    assert source.facts["vocabulary_used"] == 300


def test_a_second_load_reads_no_document(tmp_path):
    first = build(tmp_path)

    def refuse():
        raise AssertionError("the documents were read again")

    again = token_cache.open_or_build(dataclasses.replace(made(TEXTS), documents=refuse), SETTINGS, tmp_path)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train, first.train)


def test_fingerprint_stays_where_no_token_changes(tmp_path):
    first = build(tmp_path / "a")
    assert build(tmp_path / "b").fingerprint == first.fingerprint
    renewed = build(tmp_path / "a", key=1)  # another key, as of files that were touched: built again
    assert renewed.folder != first.folder and renewed.fingerprint == first.fingerprint
    wide = token_cache.fingerprint(300, first.train.astype("<u4"), first.held_out.astype("<i8"))
    assert wide == first.fingerprint


def test_fingerprint_changes_where_a_token_does(tmp_path):
    train, held_out = np.arange(50) % 7, np.arange(20) % 7
    other = train.copy()
    other[-1] += 1
    prints = [
        token_cache.fingerprint(*parts)
        for parts in [
            (300, train, held_out),
            (300, other, held_out),
            (300, train, held_out[::-1]),
            (301, train, held_out),
            (300, np.append(train, held_out[0]), held_out[1:]),
            (300, train[:-1], held_out),
        ]
    ]
    assert len(set(prints)) == len(prints)
    changed = [*TEXTS[:-1], TEXTS[-1].replace("39", "38")]
    assert build(tmp_path, changed, key=1).fingerprint != build(tmp_path).fingerprint


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_tokens_are_stored_as_narrow_as_the_vocabulary_allows(tmp_path, vocab_size, dtype):
    source = build(tmp_path, vocab_size=vocab_size)
    assert source.train.dtype == np.dtype(dtype) and source.vocab_size == vocab_size
    assert source.decode(source.train).startswith(TEXTS[0])


def truncate(file):
    file.write_bytes(file.read_bytes()[:-2])


def flip(file):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize(
    "harm", [truncate, flip, lambda file: file.unlink(), lambda file: file.write_bytes(b"")]
)
@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "tokenizer.json", "meta.json"])
def test_a_damaged_cache_is_built_again_with_a_warning(tmp_path, name, harm):
    first = build(tmp_path)
    harm(first.folder / name)
    with pytest.warns(token_cache.DamagedCacheWarning, match="built again"):
        again = build(tmp_path)
    assert again.fingerprint == first.fingerprint
    assert again.decode(again.train).startswith(TEXTS[0])
    assert build(tmp_path).fingerprint == first.fingerprint  # and no warning any more


def test_large_files_are_checked_in_part_and_always_at_both_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "BLOCK", 64)
    file = tmp_path / "train.bin"
    raw = bytearray(np.random.default_rng(0).bytes(100_001))
    file.write_bytes(raw)
    check = token_cache._check(file)
    for position in (0, 100_000, 10 * (100_001 // token_cache.BLOCKS)):
        raw[position] ^= 1
        file.write_bytes(raw)
        assert token_cache._check(file) != check
        raw[position] ^= 1


def test_an_interrupted_build_leaves_no_cache_and_does_no_harm(tmp_path):
    def interrupted():
        yield from TEXTS[:20]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        token_cache.open_or_build(dataclasses.replace(made(TEXTS), documents=interrupted), SETTINGS, tmp_path)
    assert [p.name for p in (tmp_path / "tokens").iterdir() if p.is_dir() and p.suffix != ".part"] == []
    assert build(tmp_path).fingerprint == build(tmp_path / "fresh").fingerprint
    assert not list((tmp_path / "tokens").glob("*.part"))


def test_processes_that_start_at_once_build_once(tmp_path):
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from hpt.data import token_cache
        from hpt.data.corpus import Corpus
        root = Path(sys.argv[1])
        def documents():
            with (root / "builds").open("a") as file:
                file.write("built\\n")
            for i in range(40):
                time.sleep(0.01)
                yield f"document {i} of the text\\n" * 8
        (root / sys.argv[2]).touch()
        while len(list(root.glob("ready*"))) < 2:
            time.sleep(0.001)
        settings = {"vocab_size": 300, "tokenizer": "bpe", "every": 10, "max_tokens": None}
        corpus = Corpus("made-up text", {}, {}, documents)
        source = token_cache.open_or_build(corpus, settings, root)
        print(source.fingerprint, len(source.train))
    """)
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), f"ready{i}"], stdout=subprocess.PIPE)
        for i in range(2)
    ]
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(said) == 1 and (tmp_path / "builds").read_text() == "built\n"


@pytest.mark.parametrize("texts", [TEXTS, ["".join(TEXTS)]])
def test_max_tokens_counts_both_parts(tmp_path, texts):
    whole, part = build(tmp_path, texts), build(tmp_path, texts, max_tokens=400)
    assert (part.train_tokens, len(part.held_out)) == (360, 40)
    assert whole.train_tokens > 360
    assert part.facts["bytes_per_token"] == pytest.approx(whole.facts["bytes_per_token"], rel=0.3)


def test_a_single_document_holds_out_its_tail(tmp_path):
    source = build(tmp_path, ["a" * 9000 + "b" * 1000])
    assert source.decode(source.train) == "a" * 9000 + "<|endoftext|>"
    assert source.decode(source.held_out) == "b" * 1000 + "<|endoftext|>"


def test_training_windows_never_hold_validation_text(tmp_path):
    source = build(tmp_path, [("z" if i % 10 == 9 else "a") * 50 for i in range(100)])
    seen = "".join(source.decode(row) for step in range(50) for row in source.batch(0, step, 8, 16)[1])
    held = "".join(source.decode(row) for row in source.validation(5, 16)[1])
    assert set(seen.replace("<|endoftext|>", "")) == {"a"}
    assert set(held.replace("<|endoftext|>", "")) == {"z"}


@pytest.mark.parametrize(
    ("texts", "changes", "message"),
    [
        (["short"], {}, "made-up text has 5 characters"),
        ([], {}, "made-up text has 0 characters"),
        (TEXTS, {"max_tokens": 5}, "max_tokens=5 is too small"),
    ],
)
def test_too_little_text_is_refused_and_leaves_no_cache(tmp_path, texts, changes, message):
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            build(tmp_path, texts, **changes)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="HPT_CACHE_DIR"):
        build(tmp_path / "file")


def test_a_cache_can_be_read_where_it_cannot_be_written(tmp_path):
    first = build(tmp_path)
    for lock in (tmp_path / "tokens").glob("*.lock"):
        lock.unlink()
        lock.mkdir()  # nothing can lock here, not even root
    assert build(tmp_path).fingerprint == first.fingerprint
    shutil.rmtree(first.folder)
    with pytest.raises(DataError, match="cannot be written"):
        build(tmp_path)
