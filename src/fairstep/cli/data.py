"""``fairstep data``: prepare text for training, look at what was prepared, check it, remove it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tyro

from fairstep.cli.shared import screen
from fairstep.cli.shared.dispatch import Menu, Verb, fail
from fairstep.cli.shared.options import named_sources, parse, token_count
from fairstep.data import Corpus, DataError, cache_directory, corpora, find_corpus, prepare
from fairstep.data.cache import remove
from fairstep.data.meta import fingerprint_version, read_meta

MENU = Menu(
    name="data",
    title="fairstep data: texts as corpora of tokens",
    groups={
        "": {
            "prepare": Verb(
                "text, Hugging Face datasets or token files to a corpus in the cache", f"{__name__}:prepare_text"
            ),
            "inspect": Verb(
                "what a corpus holds, a sample of it, and whether its files are as they were written",
                f"{__name__}:inspect",
            ),
            "list": Verb("the prepared corpora", f"{__name__}:list_corpora"),
            "remove": Verb("delete a prepared corpus", f"{__name__}:remove_corpus"),
        }
    },
    more="""\
Example: fairstep data prepare 'texts/*.jsonl.gz' --name mine
""",
)


@dataclass(frozen=True)
class PrepareOptions:
    """Turn text into checksummed shards of tokens, in parallel; a preparation that was stopped goes on.

    Example: fairstep data prepare 'texts/*.parquet' --tokenizer gpt2 --name mine
    Example: fairstep data prepare hf:fineweb --tokenizer gpt2 --max-tokens 1B --name fineweb-1b
    Example: fairstep data prepare 'fineweb_train_*.bin' fineweb_val_000000.bin --name fineweb10b
    Example: fairstep data prepare dclm=3.8 starcoder=0.25 proofpile=0.055 --validation c4=c4-en --name w-mix
    """

    sources: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files or quoted globs (txt, md, json, jsonl, csv, tsv, parquet; packed as .gz, .bz2, .xz, .zst), *.bin of nanoGPT
    or llm.c, hf:OWNER/NAME[:CONFIG[:SPLIT]], package:NAME==VERSION, prepared corpora; with =WEIGHT behind each, a
    mixture. Default: Python's standard library."""
    name: str = ""
    """A name by which the corpus is found later: --data NAME. It may not be another corpus's."""
    tokenizer: str = "bpe"
    """bpe (trained on the text), bytes, gpt2, a file (tokenizer.json, *.tiktoken, vocab.bpe) or a corpus's name."""
    vocabulary: int = 512
    """Tokens of the byte-level BPE that is trained on the text."""
    validation: tuple[str, ...] = ()
    """Further validation sets, as NAME=SOURCE."""
    validation_share: float = 0.05
    """Part of the documents that is kept for validation."""
    column: str = "text"
    """Where JSON, CSV, parquet and Hugging Face rows have their text."""
    format: str = "auto"
    """What files hold whose names do not say it: text, json (a line each, or an array), csv, tsv or parquet."""
    encoding: str = "utf-8"
    """Characters of the files, for example latin-1, cp1252 or utf-16."""
    max_tokens: str = ""
    """End a Hugging Face stream at so many tokens, for example 100M."""
    max_bytes: str = ""
    """End a Hugging Face stream at so many bytes of text, for example 2B."""
    workers: int = 0
    """Processes. Default: one a core; texts of less than 32 MB take none."""
    json: bool = False
    """Print what was prepared as JSON."""


@dataclass(frozen=True)
class InspectOptions:
    """Show documents, tokens, bytes per token and a decoded sample, and compare every file with its checksum.

    Exit code 1 when the corpus is damaged.

    Example: fairstep data inspect mine
    """

    corpus: tyro.conf.Positional[str]
    """Name or folder of a prepared corpus; `fairstep data list` shows them."""
    sample: int = 60
    """Tokens of the sample."""
    verify: bool = True
    """Read all files and compare their checksums."""
    json: bool = False
    """Print everything as JSON."""


@dataclass(frozen=True)
class ListOptions:
    """The prepared corpora of the cache (FAIRSTEP_CACHE, else ~/.cache/fairstep).

    Example: fairstep data list --json
    """

    json: bool = False
    """Print them as JSON."""


@dataclass(frozen=True)
class RemoveOptions:
    """Delete a prepared corpus and its names. The text that it was made of stays, and so do token files of others.

    Example: fairstep data remove mine
    """

    corpus: tyro.conf.Positional[str]
    """Name or folder of a prepared corpus; `fairstep data list` shows them."""
    json: bool = False
    """Print what was removed as JSON."""


def prepare_text(arguments: list[str]) -> int:
    options = parse(PrepareOptions, "data prepare", arguments)
    began = time.perf_counter()
    with screen.stages("preparing the text") as report:
        corpus = prepare(
            options.sources or None,
            vocabulary=options.vocabulary,
            tokenizer=options.tokenizer,
            validation=named_sources(options.validation),
            validation_share=options.validation_share,
            column=options.column,
            format=options.format,
            encoding=options.encoding,
            max_tokens=token_count(options.max_tokens, "--max-tokens") if options.max_tokens else 0,
            max_bytes=token_count(options.max_bytes, "--max-bytes") if options.max_bytes else 0,
            name=options.name,
            workers=options.workers,
            progress=report,
        )
    facts = facts_of(corpus) | {"seconds": time.perf_counter() - began}
    facts["name"] = options.name or facts["name"]  # a corpus has all names that it was ever given
    if options.json:
        print(json.dumps(facts))
    else:
        print_facts(facts)
        screen.out(f"\ntrain on it: fairstep train adamw --data {options.name or corpus.directory.name}")
    return 0


def inspect(arguments: list[str]) -> int:
    options = parse(InspectOptions, "data inspect", arguments)
    try:
        corpus = find_corpus(options.corpus)
        if corpus and options.verify:
            corpus.verify()
    except DataError as error:
        if "is damaged" not in str(error):
            raise
        if options.json:
            print(json.dumps({"corpus": options.corpus, "verified": False, "error": str(error)}))
        return fail(str(error), 1)
    if corpus is None:
        names = ", ".join(sorted({name for name, _ in corpora()})) or "none yet: fairstep data prepare makes one"
        raise ValueError(f"no prepared corpus is called {options.corpus!r}; there are {names}")
    facts = facts_of(corpus) | {"verified": options.verify, "sample": sample(corpus, options.sample)}
    if options.json:
        print(json.dumps(facts))
        return 0
    print_facts(facts)
    screen.out("checksums: all files are as they were written" if options.verify else "checksums: not compared")
    for name, text in facts["sample"].items():
        screen.out(f"\nsample of {name}:\n{text}")
    return 0


def list_corpora(arguments: list[str]) -> int:
    options = parse(ListOptions, "data list", arguments)
    rows = []
    for name, folder in corpora():
        try:
            meta = read_meta(folder)
            row = {"name": name, "folder": folder.name, "vocabulary": meta["vocabulary"]}
            row["fingerprint_version"] = fingerprint_version(meta["fingerprint"])
            rows.append(row | {f"{part}_tokens": meta[part]["tokens"] for part in ("train", "validation")})
        except DataError as error:
            rows.append({"name": name, "folder": folder.name, "error": str(error)})
    if options.json:
        print(json.dumps(rows))
    elif rows:
        header = ["name", "folder", "vocabulary", "training tokens", "validation tokens"]
        numbers = ("vocabulary", "train_tokens", "validation_tokens")
        cells = [
            [row["name"], row["folder"], *(f"{row[key]:,}" if key in row else "damaged" for key in numbers)]
            for row in rows
        ]
        screen.print_table("", header, cells, left=2)
    else:
        screen.out(f"no corpus in {cache_directory()}; `fairstep data prepare` makes one")
    return 0


def remove_corpus(arguments: list[str]) -> int:
    options = parse(RemoveOptions, "data remove", arguments)
    directory, names = remove(options.corpus)
    if options.json:
        print(json.dumps({"directory": str(directory), "names": names}))
    else:
        screen.out(f"removed {directory}" + (f", called {', '.join(names)}" if names else ""))
    return 0


FEW_FOR_VALIDATION = 20  # documents; the loss of fewer depends on which they are


def facts_of(corpus: Corpus) -> dict[str, Any]:
    """Everything that is known of a corpus, as JSON values."""
    bytes_per_token = None if math.isnan(corpus.bytes_per_token) else corpus.bytes_per_token
    return {
        "name": corpus.name,
        "directory": str(corpus.directory),
        "fingerprint": corpus.fingerprint,
        "tokenizer": corpus.tokenizer.get("kind", "bpe" if not corpus.parts else "of its parts"),
        "vocabulary": corpus.vocabulary,
        "documents": corpus.documents,
        "validation_documents": corpus.validation_documents,
        "train_tokens": corpus.train_tokens,
        "validation_tokens": corpus.validation_tokens,
        "bytes_per_token": bytes_per_token,
        "shards": sum(len(shards) for shards in corpus.shards.values()),
        "duplicates": corpus.source.get("duplicates"),
        "blank": corpus.source.get("blank"),
        "fingerprint_version": corpus.fingerprint_version,
        "parts": {part.name: share for part, share in corpus.parts} if len(corpus.parts) > 1 else {},
        "validation_sets": list(corpus.validation_sets()),
        "warnings": list(warnings_of(corpus)),
    }


def warnings_of(corpus: Corpus) -> Iterator[str]:
    """What a user of the corpus should know."""
    few = corpus.validation_documents
    if few < FEW_FOR_VALIDATION:
        yield (
            f"only {few:,} document{'s are' if few != 1 else ' is'} for validation, so the loss depends on which "
            f"{'they are' if few != 1 else 'it is'}: give more text or a larger --validation-share, so that "
            f"{FEW_FOR_VALIDATION} or more are"
        )
    kept = corpus.source.get("characters_kept")
    if kept is not None and kept < 0.9995:
        yield f"the tokenizer gives back {kept:.1%} of a sample's characters; the others are unknown to it"


def print_facts(facts: dict[str, Any]) -> None:
    bytes_per_token = facts["bytes_per_token"]
    screen.out(f"{facts['name']}: {facts['directory']}")
    screen.out(f"tokenizer: {facts['tokenizer']}, {facts['vocabulary']:,} tokens")
    duplicates = f", {facts['duplicates']:,} duplicates left out" if facts["duplicates"] else ""
    duplicates += f", {facts['blank']:,} without text left out" if facts["blank"] else ""
    screen.out(f"documents: {facts['documents']:,} ({facts['validation_documents']:,} for validation){duplicates}")
    screen.out(f"tokens: {facts['train_tokens']:,} for training, {facts['validation_tokens']:,} for validation")
    if facts["fingerprint_version"] == 1:
        screen.out(
            "fingerprint: version 1, which covers the names and the order of the files too; a corpus that is prepared "
            "anew has version 2, by the texts alone, and its runs are others than those on this one"
        )
    screen.out(
        "bytes per token: "
        + (f"{bytes_per_token:.4f}" if bytes_per_token else "not known without the tokenizer (--tokenizer)")
    )
    for name, share in facts["parts"].items():
        screen.out(f"part: {share:8.4%} {name}")
    if len(facts["validation_sets"]) > 1:
        screen.out(f"validation sets: {', '.join(facts['validation_sets'])}; the first gives a run's final loss")
    for warning in facts["warnings"]:
        screen.out(f"note: {warning}")


def sample(corpus: Corpus, tokens: int) -> dict[str, str]:
    """The first training tokens as text, of each part."""
    parts = [part for part, _ in corpus.parts] or [corpus]
    if not corpus.has_tokenizer:
        return {}
    texts = {}
    for part in parts:
        stream = part.train() if part.train_tokens else part.validation()
        texts[part.name] = part.decode(stream[:tokens])  # type: ignore[index]
    return texts
