"""Text to tokens: a byte-level BPE, and documents as a stream of token ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hpt.errors import DataError

#: Whether a text is held out for validation, and the text.
Part = tuple[bool, str]

#: Closes every document; the name that GPT-2 uses too.
END = "<|endoftext|>"
#: The BPE is trained on the first so many characters of the training text.
SAMPLE_CHARS = 16_000_000
PIECE_CHARS = 1 << 16
#: So many pieces are encoded in parallel.
BATCH_PIECES = 256
#: 256 bytes and END.
MIN_BPE_VOCAB = 257
GPT2_VOCAB = 50257


def split(documents: Iterable[str], every: int) -> Iterator[Part]:
    """Yield (held out, text): every ``every``-th document is held out for validation.

    With fewer than ``every`` documents the last 1/``every`` of the text of each is held out
    instead.
    """
    documents = iter(documents)
    first = list(itertools.islice(documents, every))
    if len(first) < every:
        for text in first:
            end = len(text) - len(text) // every
            yield False, text[:end]
            yield True, text[end:]
        return
    for number, text in enumerate(itertools.chain(first, documents), start=1):
        yield number % every == 0, text


def sample(parts: Iterable[Part], chars: int = SAMPLE_CHARS) -> list[Part]:
    """The first parts, until their training text has ``chars`` characters; takes them off an
    iterator."""
    taken = []
    for held_out, text in parts:
        taken.append((held_out, text))
        if not held_out:
            chars -= len(text)
        if chars <= 0:
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
    # The downloader's errors have no common base.
    except Exception as error:
        raise DataError(
            f"GPT-2's tokenizer cannot be downloaded: {error}",
            "no network",
            "DataConfig(tokenizer='bpe', vocab_size=1024), which trains its own",
        ) from error


def pieces(text: str) -> Iterator[str]:
    """Cut a long text at line ends into pieces of at most ``PIECE_CHARS`` characters."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        end = text.rfind("\n", start, start + PIECE_CHARS) + 1 or start + PIECE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]


def encode(parts: Iterable[Part], tokenizer: Tokenizer) -> Iterator[tuple[bool, np.ndarray, int, bool]]:
    """Yield (held out, ids, bytes of text, whether it ends a document) for every piece of every
    document.

    The ids are uint32; ``END`` closes a document. They do not depend on neighbouring documents.
    Where a text spells ``END`` it is read as text.
    """
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id(END)
    stream = _pieces_of(parts)
    while batch := list(itertools.islice(stream, BATCH_PIECES)):
        texts = [text for _, text, _ in batch]
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for (held_out, text, last), encoding in zip(batch, encodings, strict=True):
            ids = [*encoding.ids, end] if last else encoding.ids
            yield held_out, np.array(ids, dtype=np.uint32), len(text.encode()), last


def _pieces_of(parts):
    """(held out, piece, whether it is its document's last)."""
    for held_out, text in parts:
        *first, last = pieces(text)
        for piece in first:
            yield held_out, piece, False
        yield held_out, last, True
