"""From a collection of text to a corpus in the cache.

The text is read once for its fingerprint. When no corpus of that fingerprint is in the cache, it is read again and
sorted (`fairstep.data.sorting`). Then the tokenizer is trained, and the shards are written, one range of hashes each.
Until the corpus is complete, everything finished lies in a folder named by the fingerprint. A preparation that was
killed goes on from there, and a second process that prepares the same corpus waits for the first.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fairstep.data import bpe, workers
from fairstep.data.cache import existing, install, locked, sweep, writing
from fairstep.data.corpus import Corpus, cache_directory, corpus_directory
from fairstep.data.documents import Collection
from fairstep.data.errors import DataError
from fairstep.data.meta import VERSION_2, fingerprint_version
from fairstep.data.shards import file_facts
from fairstep.data.sorting import Range, read_range, run_bytes, split
from fairstep.data.survey import RECIPE, Progress, Survey, survey
from fairstep.data.tokenizer import OWN, Tokenizer, characters_kept, digest_of

VALIDATION_SHARE = 0.05
TOKENIZER_SAMPLE = 20_000_000  # characters; more text gives no better tokens
CHECKED_SAMPLE = 200_000  # characters that are encoded and decoded to see that nothing is lost
LEAST_KEPT = 0.9  # of these characters; a tokenizer that writes in small letters or without accents keeps all
_MOST_SHARDS = 512


@dataclass(frozen=True)
class Recipe:
    """How tokens are made of text."""

    vocabulary: int  # of the corpus's own BPE
    tokenizer: Tokenizer | None = None  # None: its own BPE
    validation_share: float = VALIDATION_SHARE

    def fingerprint(self, text: str) -> str:
        """The text's, with whatever here is not as usual. (The own BPE's vocabulary is a corpus's second name.)"""
        unusual: dict[str, Any] = {}
        if self.tokenizer:
            unusual["tokenizer"] = digest_of(self.tokenizer)
        if self.validation_share != VALIDATION_SHARE:
            unusual["validation_share"] = self.validation_share
        if not unusual:
            return text
        version = VERSION_2 if fingerprint_version(text) == 2 else ""
        return version + hashlib.sha256(f"{text} {json.dumps(unusual, sort_keys=True)}".encode()).hexdigest()

    @property
    def kind(self) -> str:
        if self.tokenizer is None:
            return f"{OWN}{self.vocabulary}"
        return f"{OWN}{self.tokenizer.vocabulary}" if self.tokenizer.kind == OWN else self.tokenizer.kind


def build(collection: Collection, recipe: Recipe, cache: Path | None, processes: int, report: Progress) -> Corpus:
    """The corpus of a collection, made unless the cache has it. `processes` 0: as many as there are cores."""
    small = collection.bytes_on_disk() < workers.SMALL
    processes = 0 if small else processes or os.cpu_count() or 1
    found = survey(collection, processes, report)
    fingerprint = recipe.fingerprint(found.fingerprint)
    vocabulary = recipe.tokenizer.vocabulary if recipe.tokenizer else recipe.vocabulary
    cache = cache or cache_directory()
    directory = corpus_directory(fingerprint, recipe.kind, cache)
    with writing(directory.parent):
        if corpus := existing(fingerprint, vocabulary, directory):
            return corpus
        # Runs that were begun on a corpus of the first version go on with it.
        first = recipe.fingerprint(found.first_fingerprint)
        if corpus := existing(first, vocabulary, corpus_directory(first, recipe.kind, cache)):
            return corpus
        with locked(cache, directory.name):
            if corpus := existing(fingerprint, vocabulary, directory):  # another process made it meanwhile
                return corpus
            directory.parent.mkdir(parents=True, exist_ok=True)
            sweep(directory.parent)
            work = directory.parent / f".unfinished-{directory.name}"
            try:
                facts = _Build(work, collection, recipe, found, processes, report).make()
                corpus = install({"fingerprint": fingerprint} | facts, directory, work / "corpus")
            except DataError:  # nothing to go on with
                shutil.rmtree(work, ignore_errors=True)
                raise
            shutil.rmtree(work, ignore_errors=True)
            return corpus


class _Build:
    """One corpus while it is made: sorted text in ``work/``, what will be its folder in ``work/corpus/``."""

    def __init__(
        self, work: Path, collection: Collection, recipe: Recipe, found: Survey, processes: int, report: Progress
    ) -> None:
        self.work, self.corpus = work, work / "corpus"
        self.collection, self.recipe, self.survey = collection, recipe, found
        self.processes, self.report = processes, report

    def make(self) -> dict[str, Any]:
        """Write the corpus's files; returns its meta."""
        self.corpus.mkdir(parents=True, exist_ok=True)
        self._sort()
        train, validation = split(self.work, self.recipe.validation_share, self.survey, self.collection.name)
        tokenizer = self._tokenizer(train)
        known = {
            "kind": tokenizer.kind,
            "file": tokenizer.file,
            "end_of_text": tokenizer.end_of_text,
            "item_bytes": bpe.item_bytes(tokenizer.vocabulary),
        }
        kept = self._check(tokenizer, train or validation)
        facts = self._encode({"train": train, "validation": validation}, known)
        if tokenizer.file:
            facts["files"] = {tokenizer.file: file_facts(self.corpus / tokenizer.file)} | facts["files"]
        written = facts["train"]["documents"] + facts["validation"]["documents"]
        distinct = self.survey.distinct if self.survey.few else written
        source = {
            "files": len(self.collection.files),
            "documents_read": self.survey.documents,
            "duplicates": self.survey.documents - distinct,
            "blank": self.survey.blank,
            "characters_kept": kept,
            "text_fingerprint": self.survey.fingerprint,
            "validation_share": self.recipe.validation_share,
            "recipe": RECIPE,
            "python": self.collection.python or platform.python_version(),
            "tokenizers": version("tokenizers"),
        }
        name = {"name": self.collection.name, "vocabulary": tokenizer.vocabulary}
        return name | facts | {"tokenizer": known, "source": source}

    def _sort(self) -> None:
        total = self.survey.text_bytes
        more = {
            "folder": str(self.work),
            "name": self.collection.name,
            "cut": self.survey.few,
            "run_bytes": run_bytes(total),
        }
        tasks = [payload | more | {"key": key} for key, payload in self.survey.units]
        workers.run("sort", tasks, self.processes, workers.counting(self.report, "copying", total))
        self.report("copying", 1.0)

    def _tokenizer(self, train: list[Range]) -> Tokenizer:
        """The recipe's, or one that is trained now; its file is in the corpus's folder."""
        tokenizer = self.recipe.tokenizer
        if tokenizer is None:
            self.report("training the tokenizer", 0.0)
            sample = self._sample(train, TOKENIZER_SAMPLE)
            tokenizer, wanted = bpe.train(sample, self.recipe.vocabulary), self.recipe.vocabulary
            if tokenizer.vocabulary < wanted:
                raise DataError(
                    f"the text of {self.collection.name} is too small for a vocabulary of {wanted:,}: it gives "
                    f"{tokenizer.vocabulary:,} tokens, so ask for no more, or give more text"
                )
            self.report("training the tokenizer", 1.0)
        tokenizer.save(self.corpus)
        return tokenizer

    def _check(self, tokenizer: Tokenizer, ranges: list[Range]) -> float:
        """The share of a sample's characters that its tokens give back. Raises DataError if it is small."""
        kept = characters_kept(tokenizer, list(self._sample(ranges, CHECKED_SAMPLE)))
        if kept < LEAST_KEPT:
            raise DataError(
                f"the tokenizer does not fit the text of {self.collection.name}: of a sample's characters its tokens "
                f"give back {kept:.1%}, and at least {LEAST_KEPT:.0%} are needed: name another tokenizer"
            )
        return kept

    def _sample(self, ranges: list[Range], characters: int) -> Iterator[str]:
        """The first texts with so many characters."""
        length = 0
        for piece in ranges:
            for data in read_range(self.work, piece):
                text = data.decode("utf-8")
                yield text
                length += len(text)
                if length >= characters:
                    return

    def _encode(self, splits: dict[str, list[Range]], tokenizer: dict[str, Any]) -> dict[str, Any]:
        """Write the shards of both splits; the facts about them."""
        names = {name: list(_shard_names(name, ranges)) for name, ranges in splits.items()}
        more = {"work": str(self.work), "tokenizer": tokenizer}
        tasks = [
            {"path": str(self.corpus / shard), "ranges": [[low.hex(), high.hex()] for low, high in ranges]} | more
            for shards in names.values()
            for shard, ranges in shards
        ]
        hear = workers.counting(self.report, "encoding", self.survey.text_bytes)
        results = iter(workers.run("encode", tasks, self.processes, hear))
        self.report("encoding", 1.0)
        facts: dict[str, Any] = {"files": {}}
        for name, shards in names.items():
            found = {shard: next(results) for shard, _ in shards}
            facts[name] = {key: sum(fact[key] for fact in found.values()) for key in _COUNTS}
            facts[name]["shards"] = [{"file": shard, "tokens": fact["tokens"]} for shard, fact in found.items()]
            facts["files"] |= {shard: fact["file"] for shard, fact in found.items()}
        return facts


_COUNTS = ("documents", "text_bytes", "tokens")


def _shard_names(split: str, ranges: list[Range]) -> Iterator[tuple[str, list[Range]]]:
    """The shards of a split and their ranges: one a range, or neighbours together when there are very many."""
    together = -(-len(ranges) // _MOST_SHARDS)
    for number, start in enumerate(range(0, len(ranges), together or 1)):
        yield (f"{split}-{number:05}.bin" if len(ranges) > together else f"{split}.bin"), ranges[start:][:together]
