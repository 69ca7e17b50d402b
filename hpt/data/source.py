"""Corpora to batches of tokens: what a run trains on, and what measures its validation loss.

`installed`  real text without a download: the Python sources of installed packages (the default)
`files`      your own .txt, .jsonl, .parquet, or a folder of these
`hub`        FineWeb-Edu and any other dataset through Hugging Face ``datasets`` (``pip install
"hpt[hub]"``) `synthetic`  a hidden-Markov source whose entropy rate is known exactly
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hpt.cache_folder import cache_root, known_stand_in, stand_in
from hpt.config import config
from hpt.data import corpus
from hpt.data.batches import TokenSource
from hpt.data.synthetic import SyntheticSource
from hpt.data.token_cache import open_or_build
from hpt.data.tokenizer import GPT2_VOCAB, MIN_BPE_VOCAB
from hpt.errors import CacheError
from hpt.files import StrPath

PACKAGES = ("matplotlib", "networkx", "numpy", "pandas", "scipy", "sympy", "torch")
EXAMPLES = {"files": "DataConfig(source='files', path='my/texts')", "hub": corpus.HUB_EXAMPLE}


def _plain(path):
    return os.fspath(path) if isinstance(path, os.PathLike) else path


PathText = Annotated[str | None, BeforeValidator(_plain)]


@config
class DataConfig:
    """What text, and which tokens.

    Attributes
    ----------
    source: "installed", "files", "hub" or "synthetic".
    tokenizer: "bpe", trained on the text itself, or "gpt2" (downloaded; 50257 tokens).
    vocab_size: size of the model's vocabulary; at least 257 for "bpe", 50257 for "gpt2".
    packages: installed: whose Python sources.
    path: files: a file or a folder.
    dataset, subset, split, revision: hub: as in ``datasets.load_dataset``; ``dataset`` may be a
        local folder. The papers' text: dataset="HuggingFaceFW/fineweb-edu", subset="sample-10BT".
    follow_links: files: read also what links in the folder point to outside of it.
    column: files and hub: the field or column with the text.
    max_tokens: stop reading after so many, training and validation together; hub needs it.
    validation_every: every so-manyth document is held out; where there are fewer documents, the
        last such share of each.
    zipf_exponent, classes, order, language: synthetic: see
        :class:`hpt.data.synthetic.SyntheticSource`.
    """

    source: Literal["installed", "files", "hub", "synthetic"] = "installed"
    tokenizer: Literal["bpe", "gpt2"] = "bpe"
    vocab_size: int = Field(1024, ge=2, le=2**31 - 1)
    packages: tuple[str, ...] = Field(PACKAGES, min_length=1)
    path: PathText = None
    follow_links: bool = False
    dataset: PathText = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    max_tokens: int | None = Field(None, ge=1)
    validation_every: int = Field(10, ge=2)
    zipf_exponent: float = Field(1.0, gt=0, le=8)
    classes: int = Field(8, ge=1, le=64)
    order: int = Field(2, ge=1, le=4)
    language: int = Field(0, ge=0, lt=2**64)

    @model_validator(mode="after")
    def _fields_go_together(self):
        least = MIN_BPE_VOCAB if self.tokenizer == "bpe" else GPT2_VOCAB
        if self.source != "synthetic" and self.vocab_size < least:
            raise ValueError(
                f"vocab_size={self.vocab_size} is too small for tokenizer={self.tokenizer!r}; "
                f"give vocab_size={least} or more"
            )
        needed = {"files": ["path"], "hub": ["dataset", "max_tokens"]}
        for name in needed.get(self.source, []):
            if getattr(self, name) is None:
                raise ValueError(f"source={self.source!r} needs {name}: {EXAMPLES[self.source]}")
        for name, owner in {"path": "files", "dataset": "hub"}.items():
            value = getattr(self, name)
            if value is not None and self.source != owner:
                raise ValueError(
                    f"{name}={value!r} belongs to source={owner!r}, given source={self.source!r}: "
                    f"{EXAMPLES[owner]}"
                )
        return self


def load(config: DataConfig, cache_dir: StrPath | None = None, *, build: bool = True) -> TokenSource | None:
    """Open a source; text is tokenized the first time, and memory-mapped from the cache ever after.

    Parameters
    ----------
    config: what text.
    cache_dir: where tokens are kept; by default $HPT_CACHE_DIR, else the user's cache folder.
    build: False gives None where the text is yet to be tokenized.

    Raises
    ------
    DataError: the text is missing, empty, unreadable, binary or too short; names the file.
    """
    c = config
    if c.source == "synthetic":
        return SyntheticSource(
            vocab_size=c.vocab_size,
            exponent=c.zipf_exponent,
            classes=c.classes,
            order=c.order,
            language=c.language,
        )
    if c.source == "installed":
        texts = corpus.installed(c.packages)
    elif c.source == "files":
        texts = corpus.files(c.path, c.column, c.follow_links)
    else:
        texts = corpus.hub(c.dataset, c.subset, c.split, c.column, c.revision)
    settings = {
        "vocab_size": c.vocab_size,
        "tokenizer": c.tokenizer,
        "every": c.validation_every,
        "max_tokens": c.max_tokens,
    }
    root = cache_root(cache_dir)
    found = open_or_build(texts, settings, root, build=False)
    if found or not build:
        return found
    try:
        # Where the cache failed once, it is not tried by every process.
        return open_or_build(texts, settings, root if cache_dir else known_stand_in() or root)
    except CacheError as error:
        if cache_dir:
            raise
        return open_or_build(texts, settings, stand_in(error.what))
