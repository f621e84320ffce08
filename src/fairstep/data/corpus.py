"""A prepared corpus: tokens on disk, known by its fingerprint and the size of its vocabulary.

    CACHE/corpora/<fingerprint[:16]>-<tokenizer>/
        tokenizer.json     (or tokenizer.tiktoken, or none: see fairstep.data.tokenizer)
        train.bin          tokens as raw little-endian uint16 (uint32 for a vocabulary above 65,536), end-of-text after
                           each document; large corpora have shards train-00000.bin, train-00001.bin, ...
        validation.bin     the same
        meta.json          every fact about them, with sizes and checksums, and its own digest

A corpus of token files of others has only meta.json, with the paths of those files; a mixture has only meta.json, with
the fingerprints of its parts. A corpus appears under its name all at once or not at all, and is never changed
afterwards.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairstep.data import tokenizer as tokenizers
from fairstep.data.batches import Mixed, windows_per_epoch
from fairstep.data.errors import DataError, damaged
from fairstep.data.meta import SPLITS, fingerprint_version, read_meta, shards_of
from fairstep.data.shards import Shard, Stream
from fairstep.data.verification import check_sizes, verify, verify_once


@dataclass(frozen=True)
class Corpus:
    """Prepared tokens on disk. Token counts include one end-of-text token a document."""

    directory: Path
    name: str
    fingerprint: str
    vocabulary: int
    train_tokens: int
    validation_tokens: int  # of a mixture: what its own validation set can have
    documents: int  # of both splits, without duplicates
    validation_documents: int
    bytes_per_token: float = field(compare=False)  # of validation: bits per byte = loss / ln 2 / it; NaN if not known
    source: Mapping[str, Any] = field(compare=False)  # what it was made from, and with which versions
    tokenizer: Mapping[str, Any] = field(default_factory=dict, compare=False)  # its kind and file
    shards: Mapping[str, tuple[Shard, ...]] = field(default_factory=dict, compare=False)
    parts: tuple[tuple["Corpus", float], ...] = ()  # of a mixture: corpora and their shares of the tokens
    further: tuple[tuple[str, "Corpus"], ...] = ()  # further validation sets, by name

    def train(self) -> Stream | Mixed:
        """The training tokens, for `Batches`."""
        return self._split("train")

    def validation(self) -> Stream | Mixed:
        """The corpus's own validation tokens, for `validation_windows`. They give the run's final loss."""
        return self._split("validation")

    def validation_sets(self) -> dict[str, Stream | Mixed]:
        """Every validation set under its name: first the corpus's own, then each of a mixture's parts, then further
        ones. Each goes to `validation_windows`."""
        own = [(self.name, self)]
        parts = [(part.name, part) for part, _ in self.parts] if len(self.parts) > 1 else []
        return {name: corpus.validation() for name, corpus in [*own, *parts, *self.further]}

    def decode(self, tokens: ArrayLike) -> str:
        """The text of tokens, with end-of-text marks. Raises DataError when no tokenizer is known."""
        return self.open_tokenizer().decode(np.asarray(tokens).tolist())

    def open_tokenizer(self) -> tokenizers.Tokenizer:
        if self.parts:
            return self.parts[0][0].open_tokenizer()
        if found := tokenizers.of_corpus(self.directory, self.tokenizer):
            return found
        raise DataError(f"the corpus {self.name} came without a tokenizer: prepare it again with --tokenizer")

    @property
    def has_tokenizer(self) -> bool:
        """False for token files of others that came without."""
        first = self.parts[0][0] if self.parts else self
        return bool(first.tokenizer.get("file", "tokenizer.json")) or first.tokenizer.get("kind") == "bytes"

    @property
    def fingerprint_version(self) -> int:
        """1: names and order of the files count too. 2: the texts alone do."""
        return fingerprint_version(self.fingerprint)

    def verify(self) -> None:
        """Read every file and hold every fact against it; `DataError` when one differs."""
        verify(self.directory, read_meta(self.directory))
        for corpus in [part for part, _ in self.parts] + [corpus for _, corpus in self.further]:
            corpus.verify()

    def _split(self, name: str) -> Stream | Mixed:
        if len(self.parts) > 1:
            streams = [Stream(part.shards[name]) for part, _ in self.parts]
            return Mixed(streams, [share for _, share in self.parts])
        shards = self.parts[0][0].shards if self.parts else self.shards
        return Stream(shards[name])


def cache_directory() -> Path:
    """Where prepared corpora are kept: FAIRSTEP_CACHE, else XDG_CACHE_HOME/fairstep, else ~/.cache/fairstep."""
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("FAIRSTEP_CACHE") or Path(shared, "fairstep"))
    try:
        return folder.expanduser()
    except RuntimeError:
        raise DataError(f"the cache {folder} has no place, as no home folder is known: set FAIRSTEP_CACHE") from None


def corpus_directory(fingerprint: str, kind: str, cache: Path | None) -> Path:
    """The folder of a corpus; `kind` says the tokenizer, as in bpe512 or gpt2."""
    return (cache or cache_directory()) / "corpora" / f"{fingerprint[:16]}-{kind}"


def open_corpus(fingerprint: str, vocabulary: int, cache: Path | None = None) -> Corpus:
    """A corpus that was prepared before, by its identity. Raises DataError when it is damaged; its files are read the
    first time."""
    directory = corpus_directory(fingerprint, f"bpe{vocabulary}", cache)
    if not directory.is_dir():
        others = sorted(directory.parent.glob(f"{fingerprint[:16]}-*"))
        directory = next((path for path in others if _vocabulary(path) == vocabulary), directory)
    corpus = open_directory(directory)
    if (corpus.fingerprint, corpus.vocabulary) != (fingerprint, vocabulary):
        raise damaged(directory, f"it holds the corpus {corpus.fingerprint}, not {fingerprint}")
    verify_once(directory, read_meta(directory))
    return corpus


def open_directory(directory: Path) -> Corpus:
    """The corpus of a folder. Raises DataError when it is damaged: sizes are looked at, checksums by `open_corpus`."""
    meta = read_meta(directory)
    check_sizes(directory, meta)
    train, validation = meta["train"], meta["validation"]
    cache = directory.parent.parent
    parts = [(open_corpus(part["fingerprint"], meta["vocabulary"], cache), part) for part in meta.get("parts", ())]
    further = [
        (one["name"], open_corpus(one["fingerprint"], meta["vocabulary"], cache)) for one in meta.get("further", ())
    ]
    text_bytes = validation["text_bytes"]
    return Corpus(
        directory=directory,
        name=meta["name"],
        fingerprint=meta["fingerprint"],
        vocabulary=meta["vocabulary"],
        train_tokens=train["tokens"],
        validation_tokens=validation["tokens"],
        documents=train["documents"] + validation["documents"],
        validation_documents=validation["documents"],
        bytes_per_token=text_bytes / validation["tokens"] if text_bytes and validation["tokens"] else float("nan"),
        source=meta["source"],
        tokenizer=meta.get("tokenizer", {}),
        shards={split: tuple(shards_of(directory, meta, split)) for split in SPLITS},
        parts=tuple((corpus, part["share"]) for corpus, part in parts),
        further=tuple(further),
    )


def check_budget(
    corpus: Corpus, tokens: int, context: int, evaluation_tokens: int, *, max_epochs: float = 4.0
) -> float:
    """The number of epochs that a budget of `tokens` makes; `DataError` when the corpus is too small for it.

    Of a mixture, each part has its share of the budget, and the part that is read most often counts.
    """
    if len(corpus.parts) > 1:
        shares = [
            check_budget(part, round(share * tokens), context, 0, max_epochs=max_epochs) for part, share in corpus.parts
        ]
        epochs = max(shares)
    else:
        epochs = _check_training(corpus, tokens, context, max_epochs)
    evaluable = (corpus.validation_tokens - 1) // context * context
    if evaluable < context:
        raise DataError(
            f"the corpus {corpus.name} has {corpus.validation_tokens:,} validation tokens, too few for a context of "
            f"{context:,}: ask for a context of at most {corpus.validation_tokens - 1:,}, or give more text"
        )
    if evaluation_tokens > evaluable:
        raise DataError(
            f"an evaluation on {evaluation_tokens:,} tokens needs more than the {evaluable:,} validation tokens of "
            f"the corpus {corpus.name}: ask for at most {evaluable:,}, or give more text"
        )
    return epochs


def _check_training(corpus: Corpus, tokens: int, context: int, max_epochs: float) -> float:
    available = windows_per_epoch(corpus.train_tokens, context) * context
    if available < context:
        raise DataError(
            f"the corpus {corpus.name} has {corpus.train_tokens:,} training tokens, too few for a context of "
            f"{context:,}: give at least {2 * context:,} tokens of text or a context of at most "
            f"{corpus.train_tokens // 2:,}"
        )
    if tokens > max_epochs * available:
        raise DataError(
            f"a budget of {tokens:,} tokens would read the {available:,} training tokens of the corpus "
            f"{corpus.name} {tokens / available:,.2f} times, and at most {max_epochs:g} are allowed: ask for at most "
            f"{int(max_epochs * available):,} tokens, or give a text of {tokens / max_epochs:,.0f} tokens or more, or "
            "allow more epochs"
        )
    return tokens / available


def _vocabulary(directory: Path) -> int | None:
    try:
        return int(read_meta(directory)["vocabulary"])
    except DataError:
        return None
