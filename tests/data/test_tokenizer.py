import os
import subprocess
import sys

import numpy as np
import pytest

from hpt.data import tokenizer
from hpt.errors import DataError

WORDS = ["def", "return", "width", "loss", "η*", "naïve", "    ", "\n", "(x)", "日本"]


def text(seed, words):
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


@pytest.fixture(scope="module")
def bpe():
    return tokenizer.train_bpe([text(0, 3000)], vocab_size=300)


def test_split_holds_out_every_so_manyth_document():
    parts = list(tokenizer.split((str(i) for i in range(25)), every=10))
    assert [t for held_out, t in parts if held_out] == ["9", "19"]
    assert [t for _, t in parts] == [str(i) for i in range(25)]


def test_split_of_few_documents_holds_out_the_tail_of_each():
    parts = list(tokenizer.split(["a" * 90 + "b" * 10, "c" * 18 + "d" * 2], every=10))
    assert parts == [(False, "a" * 90), (True, "b" * 10), (False, "c" * 18), (True, "d" * 2)]


def test_sample_stops_at_so_many_characters_of_training_text():
    stream = iter([(False, "a" * 5), (True, "b" * 50), (False, "c" * 5), (False, "d")])
    assert [t for _, t in tokenizer.sample(stream, chars=10)] == ["a" * 5, "b" * 50, "c" * 5]
    assert list(stream) == [(False, "d")]


@pytest.mark.parametrize("line", ["x" * 99 + "\n", "x"])
def test_pieces_are_short_lose_nothing_and_end_at_line_ends(line, monkeypatch):
    monkeypatch.setattr(tokenizer, "PIECE_CHARS", 1000)
    whole = line * (2550 // len(line))
    cut = list(tokenizer.pieces(whole))
    assert "".join(cut) == whole
    assert max(map(len, cut)) <= 1000 and len(cut) == 3
    assert "\n" not in line or all(piece.endswith("\n") for piece in cut)


@pytest.mark.parametrize(
    "whole", [text(1, 50), "", "\x00\x07 \t\r\n", "🐍 unseen ∂²L/∂η²", f"a{tokenizer.END}b"]
)
def test_any_text_decodes_to_itself_and_is_closed_by_the_end_token(bpe, whole):
    [(held_out, ids, n_bytes, last)] = tokenizer.encode([(True, whole)], bpe)
    assert held_out and last and n_bytes == len(whole.encode())
    assert ids[-1] == bpe.token_to_id(tokenizer.END) not in ids[:-1]
    assert bpe.decode(ids[:-1].tolist(), skip_special_tokens=False) == whole


def test_ids_do_not_depend_on_neighbours_or_batches(bpe, monkeypatch):
    monkeypatch.setattr(tokenizer, "PIECE_CHARS", 400)
    parts = [(i % 3 == 0, text(i, 20 * i)) for i in range(12)]
    together = list(tokenizer.encode(parts, bpe))
    monkeypatch.setattr(tokenizer, "BATCH_PIECES", 1)
    alone = [piece for part in parts for piece in tokenizer.encode([part], bpe)]
    assert len(together) == len(alone) > len(parts)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a[1], b[1])
        assert (a[0], *a[2:]) == (b[0], *b[2:])
    assert sum(last for *_, last in together) == len(parts)


def test_vocabulary_has_every_byte_and_at_most_what_was_asked(bpe):
    assert bpe.get_vocab_size() == 300
    assert (
        tokenizer.train_bpe(["ab"], 1024).get_vocab_size() == tokenizer.MIN_BPE_VOCAB + 1
    )  # one merge, and no more
    assert tokenizer.train_bpe(["ab"], tokenizer.MIN_BPE_VOCAB).get_vocab_size() == tokenizer.MIN_BPE_VOCAB


def test_merges_do_not_depend_on_the_number_of_threads(bpe):
    program = (
        "import sys, hashlib; from hpt.data import tokenizer; text = sys.stdin.buffer.read().decode(); "
        "print(hashlib.sha256(tokenizer.train_bpe(text.split('|'), 600).to_str().encode()).hexdigest())"
    )
    documents = "|".join(
        text(seed, 400) + " ".join(f"{n:x}" for n in range(100 * seed)) for seed in range(20)
    ).encode()
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=documents,
            capture_output=True,
            check=True,
            env=os.environ | {"RAYON_NUM_THREADS": n},
        ).stdout
        for n in ("1", "2", "5")
    }
    assert len(digests) == 1


def test_gpt2_without_a_network_says_what_to_do(monkeypatch):
    class Offline:
        @staticmethod
        def from_pretrained(name):
            raise OSError("no route to host")

    monkeypatch.setattr(tokenizer, "Tokenizer", Offline)
    with pytest.raises(DataError, match=r"(?s)no route to host.*no network.*tokenizer='bpe'"):
        tokenizer.gpt2()
