"""Token files of other trainers, read where they lie.

* nanoGPT, llm-baselines - ``train.bin``, ``val.bin``: raw little-endian uint16;
* the same as raw uint32, which a vocabulary above 65,536 needs, and OLMo and Megatron-LM write;
* llm.c, modded-nanogpt - ``*_train_NNNNNN.bin``, ``*_val_NNNNNN.bin``: 256 int32 of header (magic 20240520, version 1,
  number of tokens), then uint16; for Llama 3 magic 20240801, version 7, then uint32.

A header is certain by its magic number and the file's size together. Without one the vocabulary says how many bytes a
token has; below 65,536 a token has 4 if the upper half of every number is 0. Other layouts are refused: by their first
bytes, by the index beside them, by a token beyond the vocabulary, or because no document ends in the whole file.

Files with ``val`` in their name are for validation, the others for training. They are read once for checksums, document
marks and the largest token; the corpus in the cache then holds only meta.json, which names them.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fairstep.data import gpt2, workers
from fairstep.data.cache import corpora, existing, install, locked, writing
from fairstep.data.corpus import Corpus, cache_directory, corpus_directory, open_directory
from fairstep.data.documents import find
from fairstep.data.errors import DataError
from fairstep.data.formats import reading
from fairstep.data.meta import VERSION_2, read_meta, token_bytes
from fairstep.data.shards import Shard, Stream, scan
from fairstep.data.survey import Progress
from fairstep.data.tokenizer import Tokenizer, digest_of

_HEADER = 1024
_STREAMS = {20240520: (1, 2), 20240801: (7, 4)}  # magic number: version, bytes a token
_EXAMPLES = 20240522  # llm.c's evaluation files
_LLAMA_3 = (128_256, 128_000)  # vocabulary and the mark before each document
_MOST_OF_UINT16 = 65_536
_LOOKED_AT = 1 << 21  # bytes, to tell the layouts apart
_OTHERS = {
    "a NumPy file": b"\x93NUMPY",
    "a zip archive, as PyTorch saves": b"PK\x03\x04",
    "compressed with gzip": b"\x1f\x8b\x08",
    "compressed with zstd": b"\x28\xb5\x2f\xfd",
    "compressed with xz": b"\xfd7zXZ\0",
    "a parquet file": b"PAR1",
    "an Arrow file": b"ARROW1",
    "an index of Megatron-LM": b"MMIDIDX",
    "an HDF5 file": b"\x89HDF",
    "a model": b"GGUF",
}
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
    shards = [_shard(path, tokenizer.vocabulary if tokenizer else gpt2.VOCABULARY) for _, path in collection.files]
    splits = ["validation" if only_validation or _is_validation(shard.path) else "train" for shard in shards]
    cache = cache or cache_directory()
    token_facts = _tokenizer_facts(tokenizer, shards)
    state = [
        [str(shard.path), shard.path.stat().st_size, shard.path.stat().st_mtime_ns, split]
        for shard, split in zip(shards, splits, strict=True)
    ] + [[tokenizer and digest_of(tokenizer)]]
    for _, directory in corpora(cache):
        with suppress(DataError):  # another corpus, and damaged
            meta = read_meta(directory)
            if meta["source"].get("state") == state and token_bytes(meta) == token_facts["item_bytes"]:
                return open_directory(directory)
    missing = {"validation"} - set(splits) if only_validation else {"train", "validation"} - set(splits)
    if missing:
        raise DataError(
            f"none of the {len(shards)} token files is for {min(missing)}: name both, for example '*_train_*.bin' and "
            "'*_val_*.bin' (those with val in their name are for validation)"
        )
    found = _scan(shards, token_facts, report)
    identity = [[split, fact["sha256"]] for split, fact in zip(splits, found, strict=True)]
    first = hashlib.sha256(json.dumps([identity, state[-1]]).encode()).hexdigest()
    # The same bytes are other tokens when a token has other many bytes.
    whole = json.dumps([identity, state[-1], token_facts["item_bytes"]])
    fingerprint = VERSION_2 + hashlib.sha256(whole.encode()).hexdigest()
    vocabulary = token_facts.pop("vocabulary")
    directory = corpus_directory(fingerprint, f"tokens{vocabulary}", cache)
    with writing(directory.parent), locked(cache, directory.name):
        for known in (fingerprint, first):
            corpus = existing(known, vocabulary, corpus_directory(known, f"tokens{vocabulary}", cache))
            if corpus and corpus.tokenizer["item_bytes"] == token_facts["item_bytes"]:
                return corpus
        folder = directory.parent / f".unfinished-{directory.name}"
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
    with reading(shard.path):
        return scan(shard, payload["end_of_text"], lambda size: report({"bytes": size}))


def _scan(shards: list[Shard], facts: dict[str, Any], report: Progress) -> list[dict[str, Any]]:
    total = sum(shard.tokens * shard.item_bytes for shard in shards)
    tasks = [
        {"path": str(shard.path), "tokens": shard.tokens, "item_bytes": shard.item_bytes, "offset": shard.offset}
        | {"end_of_text": facts["end_of_text"]}
        for shard in shards
    ]
    processes = 0 if total < workers.SMALL else os.cpu_count() or 1
    found = workers.run("scan", tasks, processes, workers.counting(report, "reading", total))
    for shard, fact in zip(shards, found, strict=True):
        if fact["largest"] >= facts["vocabulary"]:
            raise DataError(
                f"{shard.path} holds the token {fact['largest']:,}, and the vocabulary has {facts['vocabulary']:,}: "
                "name the tokenizer that it was made with"
            )
        if not fact["documents"]:
            raise DataError(
                f"{shard.path} has {shard.tokens:,} tokens of {shard.item_bytes} bytes, and none of them is the "
                f"end of a text ({facts['end_of_text']:,}): it was made with another tokenizer (name it with "
                "--tokenizer) or is of another layout than raw little-endian uint16 or uint32; a file without such "
                "marks cannot be read"
            )
    return found


def _shard(path: Path, vocabulary: int) -> Shard:
    """What a file holds, by its header, its size and the vocabulary."""
    with reading(path), path.open("rb") as file:
        size = path.stat().st_size
        header = np.frombuffer(file.read(_HEADER), dtype=np.uint8)
    for what, magic in _OTHERS.items():
        if header.tobytes().startswith(magic):
            raise DataError(
                f"{path} is {what}, not a stream of tokens: convert it to raw little-endian uint16 or uint32"
            )
    if len(header) >= 12:
        magic, version, tokens = header[: len(header) // 4 * 4].view("<i4")[:3].tolist()
        if magic == _EXAMPLES:
            raise DataError(f"{path} holds llm.c's evaluation examples, not a stream of tokens")
        if magic in _STREAMS:
            known, item_bytes = _STREAMS[magic]
            if version != known:
                raise DataError(f"{path} has llm.c's header in version {version}, and only version {known} can be read")
            expected = _HEADER + tokens * item_bytes
            if size != expected:
                raise DataError(
                    f"{path} is damaged: its header says {tokens:,} tokens, which are {expected:,} bytes, and it has "
                    f"{size:,}: fetch it again"
                )
            return Shard(path, tokens, item_bytes, _HEADER)
    item_bytes = _indexed(path) or (4 if vocabulary > _MOST_OF_UINT16 else _guessed(path, size))
    if size < item_bytes or size % item_bytes:
        number = "an even number" if item_bytes == 2 else f"a multiple of {item_bytes}"
        raise DataError(
            f"{path} is no token file: it has {size:,} bytes, and uint{8 * item_bytes} tokens need {number}"
        )
    return Shard(path, size // item_bytes, item_bytes)


def _guessed(path: Path, size: int) -> int:
    """Bytes of a token below 65,536: more than 2 where the upper halves of all numbers are 0, as of no other text."""
    with reading(path), path.open("rb") as file:
        data = file.read(_LOOKED_AT)
    halves = np.frombuffer(data[: len(data) // 8 * 8], dtype="<u2")
    if size % 4 or len(halves) < 8 or halves[1::2].any():
        return 2
    if not size % 8 and not halves[2::4].any():
        raise DataError(f"{path} has 8 bytes a token: convert it to little-endian uint16 or uint32")
    return 4


def _indexed(path: Path) -> int:
    """Bytes of a token by the index of Megatron-LM that lies beside a file; 0 when there is none."""
    index = path.with_suffix(".idx")
    if (path.parent / "index.json").is_file() and path.name.startswith("chunk-"):
        raise DataError(f"{path} is a chunk of litdata, not a stream of tokens: name the text that it was made of")
    if not index.is_file():
        return 0
    with reading(index), index.open("rb") as file:
        head = file.read(18)
    if not head.startswith(b"MMIDIDX\0\0") or len(head) < 18:
        return 0
    sizes = {8: 2, 4: 4}  # uint16 and int32
    if head[17] not in sizes:
        raise DataError(
            f"{path} is of Megatron-LM with numbers of the kind {head[17]}, and only uint16 and int32 can be read"
        )
    return sizes[head[17]]


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
        llama = item_bytes == 4 and any(shard.offset for shard in shards)
        kind, file = ("unknown-llama3" if llama else "gpt2"), ""
        vocabulary, end = _LLAMA_3 if llama else (gpt2.VOCABULARY, gpt2.END_OF_TEXT)
    return {"kind": kind, "file": file, "end_of_text": end, "item_bytes": item_bytes, "vocabulary": vocabulary}


def _text_bytes(shards: list[Shard], tokenizer: Tokenizer | None) -> int | None:
    """Bytes of the text, estimated from its first tokens; None without a tokenizer."""
    if not tokenizer:
        return None
    stream = Stream(shards)
    measured = Stream([stream[:_MEASURED]])
    found = sum(tokenizer.text_bytes(block) for block in measured.blocks())
    return round(found * len(stream) / len(measured))
