"""Token files of other trainers, read where they lie.

* nanoGPT, llm-baselines - ``train.bin``, ``val.bin``: raw little-endian uint16;
* llm.c, modded-nanogpt - ``*_train_NNNNNN.bin``, ``*_val_NNNNNN.bin``: 256 int32 of header (magic 20240520, version 1,
  number of tokens), then uint16; for Llama 3 magic 20240801, version 7, then uint32.

A header is certain by its magic number and the file's size together. Files with ``val`` in their name are for
validation, the others for training. They are read once for checksums, document marks and the largest token; the
corpus in the cache then holds only meta.json, which names them.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairstep.data import gpt2, workers
from fairstep.data.cache import corpora, existing, install, writing
from fairstep.data.corpus import Corpus, cache_directory, corpus_directory, open_directory, read_meta
from fairstep.data.documents import find
from fairstep.data.errors import DataError
from fairstep.data.formats import reading
from fairstep.data.shards import Shard, Stream
from fairstep.data.survey import Progress
from fairstep.data.tokenizer import Tokenizer, digest_of

_HEADER = 1024
_STREAMS = {20240520: (1, 2), 20240801: (7, 4)}  # magic number: version, bytes a token
_EXAMPLES = 20240522  # llm.c's evaluation files
_LLAMA_3 = (128_256, 128_000)  # vocabulary and the mark before each document
_MEASURED = 10_485_760  # validation tokens whose bytes are counted


def register(
    sources: Sequence[str],
    tokenizer: Tokenizer | None,
    only_validation: bool,
    cache: Path | None,
    report: Progress,
    name: str = "",
) -> Corpus:
    """The corpus of some token files; without a tokenizer they are taken for GPT-2's (or Llama 3's, where so marked).

    Raises DataError for a file that is cut short, is no stream of tokens, or has tokens beyond the vocabulary.
    """
    collection = find(sources)
    shards = [_shard(path) for _, path in collection.files]
    splits = ["validation" if only_validation or _is_validation(shard.path) else "train" for shard in shards]
    cache = cache or cache_directory()
    token_facts = _tokenizer_facts(tokenizer, shards)
    state = [
        [str(shard.path), shard.path.stat().st_size, shard.path.stat().st_mtime_ns, split]
        for shard, split in zip(shards, splits, strict=True)
    ] + [[tokenizer and digest_of(tokenizer)]]
    for _, directory in corpora(cache):
        if read_meta(directory)["source"].get("state") == state:
            return open_directory(directory)
    missing = {"validation"} - set(splits) if only_validation else {"train", "validation"} - set(splits)
    if missing:
        raise DataError(
            f"none of the {len(shards)} token files is for {min(missing)}: name both, for example '*_train_*.bin' and "
            "'*_val_*.bin' (those with val in their name are for validation)"
        )
    found = _scan(shards, token_facts, report)
    identity = [[split, fact["sha256"]] for split, fact in zip(splits, found, strict=True)]
    fingerprint = hashlib.sha256(json.dumps([identity, state[-1]]).encode()).hexdigest()
    vocabulary = token_facts.pop("vocabulary")
    directory = corpus_directory(fingerprint, f"tokens{vocabulary}", cache)
    with writing(directory.parent):
        if corpus := existing(fingerprint, vocabulary, directory):
            return corpus
        folder = directory.parent / f".unfinished-{directory.name}-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {"name": name or collection.name, "fingerprint": fingerprint, "vocabulary": vocabulary}
        for split in ("train", "validation"):
            members = [(shard, fact) for shard, fact, one in zip(shards, found, splits, strict=True) if one == split]
            facts[split] = {
                "documents": sum(fact["documents"] for _, fact in members),
                "tokens": sum(shard.tokens for shard, _ in members),
                "text_bytes": _text_bytes([shard for shard, _ in members], tokenizer) if split != "train" else None,
                "shards": [
                    {"file": str(shard.path), "tokens": shard.tokens, "offset": shard.offset} for shard, _ in members
                ],
            }
        facts["files"] = {
            str(shard.path): {"bytes": shard.path.stat().st_size, "sha256": fact["sha256"]}
            for shard, fact in zip(shards, found, strict=True)
        }
        if tokenizer:
            tokenizer.save(folder)
        return install(facts | {"tokenizer": token_facts, "source": {"state": state}}, directory, folder)


def scan_shard(payload: dict[str, Any], report: workers.Report) -> dict[str, Any]:
    """Checksum, documents and largest token of one file."""
    shard = Shard(Path(payload["path"]), payload["tokens"], payload["item_bytes"], payload["offset"])
    checksum = hashlib.sha256()
    with reading(shard.path), shard.path.open("rb") as file:
        checksum.update(file.read(shard.offset))
    documents = largest = 0
    for block in Stream([shard]).blocks():
        checksum.update(block.tobytes())
        documents += int(np.count_nonzero(block == payload["end_of_text"]))
        largest = max(largest, int(block.max()))
        report({"bytes": block.nbytes})
    return {"sha256": checksum.hexdigest(), "documents": documents, "largest": largest}


def _scan(shards: list[Shard], facts: dict[str, Any], report: Progress) -> list[dict[str, Any]]:
    done, total = 0, sum(shard.tokens * shard.item_bytes for shard in shards)

    def hear(index: int, said: dict[str, Any]) -> None:
        nonlocal done
        done += said["bytes"]
        report("reading", done / total)

    tasks = [
        {"path": str(shard.path), "tokens": shard.tokens, "item_bytes": shard.item_bytes, "offset": shard.offset}
        | {"end_of_text": facts["end_of_text"]}
        for shard in shards
    ]
    found = workers.run("scan", tasks, 0 if total < workers.SMALL else os.cpu_count() or 1, hear)
    for shard, fact in zip(shards, found, strict=True):
        if fact["largest"] >= facts["vocabulary"]:
            raise DataError(
                f"{shard.path} holds the token {fact['largest']:,}, and the vocabulary has {facts['vocabulary']:,}: "
                "name the tokenizer that it was made with"
            )
    return found


def _shard(path: Path) -> Shard:
    """What a file holds, by its header and size."""
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        header = np.frombuffer(file.read(_HEADER), dtype=np.uint8)
    if len(header) == _HEADER:
        magic, version, tokens = header.view("<i4")[:3].tolist()
        if magic == _EXAMPLES:
            raise DataError(f"{path} holds llm.c's evaluation examples, not a stream of tokens")
        if magic in _STREAMS and version == _STREAMS[magic][0]:
            item_bytes = _STREAMS[magic][1]
            expected = _HEADER + tokens * item_bytes
            if size != expected:
                raise DataError(
                    f"{path} is damaged: its header says {tokens:,} tokens, which are {expected:,} bytes, and it has "
                    f"{size:,}: fetch it again"
                )
            return Shard(path, tokens, item_bytes, _HEADER)
    if size < 2 or size % 2:
        raise DataError(f"{path} is no token file: it has {size:,} bytes, and uint16 tokens need an even number")
    return Shard(path, size // 2)


def _is_validation(path: Path) -> bool:
    return any(word in ("val", "valid", "validation", "test") for word in re.split(r"[^a-z]+", path.stem.lower()))


def _tokenizer_facts(tokenizer: Tokenizer | None, shards: list[Shard]) -> dict[str, Any]:
    sizes = {shard.item_bytes for shard in shards}
    if len(sizes) > 1:
        raise DataError("some of the token files have 2 bytes a token and some 4: they are not of one tokenizer")
    item_bytes = sizes.pop()
    if tokenizer:
        vocabulary, end, kind, file = tokenizer.vocabulary, tokenizer.end_of_text, tokenizer.kind, tokenizer.file
    else:
        kind, file = ("gpt2", "") if item_bytes == 2 else ("unknown-llama3", "")
        vocabulary, end = (gpt2.VOCABULARY, gpt2.END_OF_TEXT) if item_bytes == 2 else _LLAMA_3
    return {"kind": kind, "file": file, "end_of_text": end, "item_bytes": item_bytes, "vocabulary": vocabulary}


def _text_bytes(shards: list[Shard], tokenizer: Tokenizer | None) -> int | None:
    """Bytes of the text, estimated from its first tokens; None without a tokenizer."""
    if not tokenizer:
        return None
    stream = Stream(shards)
    measured = Stream([stream[:_MEASURED]])
    found = sum(tokenizer.text_bytes(block) for block in measured.blocks())
    return round(found * len(stream) / len(measured))
