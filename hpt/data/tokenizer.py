"""Text to tokens: a byte-level BPE, and documents as a stream of token ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hpt.errors import DataError

END = "<|endoftext|>"  # closes every document; the name that GPT-2 uses too
SAMPLE_CHARS = 16_000_000  # the BPE is trained on the first so many characters of the training text
PIECE_CHARS = 1 << 16
BATCH_CHARS = 1 << 20
MIN_BPE_VOCAB = 257  # 256 bytes and END
GPT2_VOCAB = 50257


def split(documents: Iterable[str], every: int) -> Iterator[tuple[bool, str]]:
    """Yield (held out, text): every ``every``-th document is held out for validation.

    With fewer than ``every`` documents the last 1/``every`` of the text of each is held out
    instead.
    """
    documents = iter(documents)
    head = list(itertools.islice(documents, every))
    if len(head) < every:
        for text in head:
            cut = len(text) - len(text) // every
            yield False, text[:cut]
            yield True, text[cut:]
        return
    for index, text in enumerate(itertools.chain(head, documents)):
        yield index % every == every - 1, text


def sample(parts: Iterable[tuple[bool, str]], chars: int = SAMPLE_CHARS) -> list[tuple[bool, str]]:
    """The first parts, until their training text has ``chars`` characters; takes them off an
    iterator."""
    taken, size = [], 0
    for held_out, text in parts:
        taken.append((held_out, text))
        size += 0 if held_out else len(text)
        if size >= chars:
            break
    return taken


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's word splitting: any text can be encoded, and decodes to itself.

    The merges depend on the texts and ``vocab_size`` alone, not on the number of threads. A short
    text may have fewer merges than were asked for.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(itertools.chain.from_iterable(map(pieces, texts)), trainer)
    return tokenizer


def gpt2() -> Tokenizer:
    """GPT-2's tokenizer (50257 tokens), downloaded on first use.

    Raises
    ------
    DataError: it cannot be downloaded.
    """
    try:
        return Tokenizer.from_pretrained("gpt2")
    except Exception as error:  # the downloader's errors have no common base
        raise DataError(
            f"GPT-2's tokenizer cannot be downloaded: {error}",
            "no network",
            "DataConfig(tokenizer='bpe', vocab_size=1024), which trains its own",
        ) from error


def pieces(text: str) -> Iterator[str]:
    """Cut a long text at line ends into pieces of at most ``PIECE_CHARS`` characters; they are
    encoded in parallel."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        end = text.rfind("\n", start, start + PIECE_CHARS) + 1 or start + PIECE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]


def encode(
    parts: Iterable[tuple[bool, str]], tokenizer: Tokenizer
) -> Iterator[tuple[bool, np.ndarray, int, bool]]:
    """Yield (held out, ids, bytes of text, whether it ends a document) for every piece of every
    document.

    The ids are uint32; ``END`` closes a document. They do not depend on neighbouring documents.
    Where a text spells ``END`` it is read as text.
    """
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id(END)
    for batch in _batches(parts):
        encodings = tokenizer.encode_batch_fast(
            [piece for _, piece, _ in batch], add_special_tokens=False
        )
        for (held_out, piece, last), encoding in zip(batch, encodings, strict=True):
            ids = np.array([*encoding.ids, end] if last else encoding.ids, dtype=np.uint32)
            yield held_out, ids, len(piece.encode()), last


def _batches(parts: Iterable[tuple[bool, str]]) -> Iterator[list[tuple[bool, str, bool]]]:
    batch, size = [], 0
    for held_out, text in parts:
        left = len(text)
        for piece in pieces(text):
            left -= len(piece)
            batch.append((held_out, piece, left == 0))
            size += len(piece)
            if size >= BATCH_CHARS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
