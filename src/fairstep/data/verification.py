"""Whether the files of a prepared corpus are as they were written.

Training reads every file once: its checksum, and that no token is beyond the vocabulary. What was read is remembered
in CACHE/verified by the files' inodes, sizes and times, so that the next run only looks at these. ``fairstep data
inspect`` reads everything again, counts the documents and the bytes of the text, and asks nothing that is remembered.
"""

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fairstep.data import tokenizer as tokenizers
from fairstep.data.errors import damaged, readable
from fairstep.data.meta import SPLITS, digest, shards_of, write_json
from fairstep.data.shards import Stream, file_facts, scan

_THREADS = 8
_LOSSLESS = ("bpe", "bytes", "gpt2", "ranks")  # kinds of tokenizers whose tokens give back every byte
_MOST_DECODED = 20_000_000  # tokens
_remembered: dict[Path, dict[str, Any]] = {}  # of this process, for a cache that cannot be written


def check_sizes(directory: Path, meta: dict[str, Any]) -> None:
    """Raises DataError for a file that is missing, no file, or of another size."""
    for name, facts in meta["files"].items():
        path = directory / name
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise damaged(directory, f"{name} is no file")
        size = path.stat().st_size if path.exists() else 0
        if size != facts["bytes"]:
            raise damaged(directory, f"{name} has {size:,} bytes instead of {facts['bytes']:,}")


def verify_once(directory: Path, meta: dict[str, Any]) -> None:
    """`verify_files`, unless that was done with these very files. Raises DataError."""
    state = _state(directory, meta)
    if state != _remembered.get(directory) and state != _read(_stamp(directory)):
        verify_files(directory, meta)
        _write(_stamp(directory), state)
    _remembered[directory] = state


def verify_files(directory: Path, meta: dict[str, Any]) -> dict[str, int]:
    """Read every file. Raises DataError when a checksum differs or a token is beyond the vocabulary; the documents of
    each split."""
    end = meta.get("tokenizer", {}).get("end_of_text", 0)
    shards = {shard.path: (split, shard) for split in SPLITS for shard in shards_of(directory, meta, split)}
    documents = dict.fromkeys(SPLITS, 0)

    def check(name: str) -> tuple[str, dict[str, Any]]:
        path = directory / name
        if path not in shards:
            return file_facts(path)["sha256"], {}
        found = scan(shards[path][1], end)
        return found["sha256"], found

    check_sizes(directory, meta)
    names = list(meta["files"])
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        for name, (checksum, found) in zip(names, threads.map(check, names), strict=True):
            if checksum != meta["files"][name]["sha256"]:
                raise damaged(directory, f"the checksum of {name} does not match")
            if found and found["largest"] >= meta["vocabulary"]:
                raise damaged(
                    directory,
                    f"{name} holds the token {found['largest']:,}, and the vocabulary has {meta['vocabulary']:,}",
                )
            if found:
                documents[shards[directory / name][0]] += found["documents"]
    return documents


def verify(directory: Path, meta: dict[str, Any]) -> None:
    """Read every file and hold every fact against it. Raises DataError."""
    documents = verify_files(directory, meta)
    for split, count in documents.items():
        if not meta.get("parts") and count != meta[split]["documents"]:
            raise damaged(
                directory, f"the {split} tokens have {count:,} documents instead of {meta[split]['documents']:,}"
            )
    facts = meta.get("tokenizer", {"kind": "bpe"})
    expected, tokens = meta["validation"].get("text_bytes"), meta["validation"]["tokens"]
    if expected is None or facts.get("kind") not in _LOSSLESS or meta.get("parts") or "state" in meta["source"]:
        return
    tokenizer = tokenizers.of_corpus(directory, facts) if tokens <= _MOST_DECODED else None
    if tokenizer:
        whole = np.asarray(Stream(shards_of(directory, meta, "validation")))
        places = np.flatnonzero(whole == facts.get("end_of_text", 0)) + 1
        steps = range(0, len(places), 1_000)  # whole documents: a character may have several tokens
        bounds = [0, *(int(places[place - 1]) for place in steps if place), len(whole)]
        found = sum(tokenizer.text_bytes(whole[a:b]) for a, b in itertools.pairwise(bounds) if b > a)
        if found != expected:
            raise damaged(directory, f"the validation text has {found:,} bytes instead of {expected:,}")


def forget(directory: Path) -> None:
    """No longer remember that a corpus was read."""
    _remembered.pop(directory, None)
    with suppress(OSError):
        _stamp(directory).unlink()


def _state(directory: Path, meta: dict[str, Any]) -> dict[str, Any]:
    files = {}
    for name in meta["files"]:
        try:
            facts = (directory / name).stat()
        except OSError as error:
            raise damaged(directory, f"{name}: {readable(error)}") from None
        files[name] = [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    return {"meta": digest(meta), "files": files}


def _stamp(directory: Path) -> Path:
    return directory.parent.parent / "verified" / f"{directory.name}.json"


def _read(path: Path) -> Any:
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return None


def _write(path: Path, state: dict[str, Any]) -> None:
    """Where the cache cannot be written, every process reads the corpus once."""
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_json(path, state)
