"""Documents in the order of their hashes, on disk: an external merge sort.

The order is by the SHA-256 of the text. Everything about a corpus follows from it:

* Equal documents have the same place, so each is there once.
* Validation is the head of the order: the hashes in the first part of their range. The text of a document alone decides
  on which side it falls. The smallest collections are an exception, because each side needs at least one document.
* The order is random. Files of one package do not sit together, the first training documents are a fair sample for the
  tokenizer, and the first validation tokens are a fair sample to evaluate on.
* Workers take ranges of the order. Laid end to end, the ranges are the same for any number of workers.

A *run* is as many documents as fit into memory, sorted: ``run-KEY-N.index`` (hash, offset, length of each document)
beside ``run-KEY-N.text``. A range of hashes is one piece of every run. Memory holds a run or a range, never a corpus.
"""

import bisect
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fairstep.data.errors import DataError
from fairstep.data.formats import PIECE, cut
from fairstep.data.meta import write_json
from fairstep.data.survey import Survey, read_unit, utf8
from fairstep.data.workers import Report

RUN_BYTES = 64_000_000  # text of a run and of a range
_MOST_RUNS = 4096  # a larger corpus has larger ones
_RECORD = np.dtype([("digest", "S32"), ("offset", "<u8"), ("length", "<u4")])
END = b"\xff" * 33  # behind every hash

Range = tuple[bytes, bytes]


def run_bytes(text_bytes: int) -> int:
    return max(RUN_BYTES, text_bytes // _MOST_RUNS)


def sort_unit(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Write the runs of one unit, unless they are there from before; DataError when its files have changed."""
    folder, key = Path(payload["folder"]), payload["key"]
    done = folder / f"{key}.done"
    if done.exists():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    seen = hashlib.sha256()
    held: dict[bytes, bytes] = {}
    size = unreported = runs = 0
    for _, text in read_unit(payload):
        if not text:
            continue
        data = utf8(text)
        seen.update(hashlib.sha256(data).digest())
        for part in (utf8(piece) for piece in cut(text, PIECE)) if payload["cut"] else (data,):
            held[hashlib.sha256(part).digest()] = part
            size += len(part)
        unreported += len(data)
        if unreported >= 1_000_000:
            report({"bytes": unreported})
            unreported = 0
        if size >= payload["run_bytes"]:
            _write_run(folder, f"run-{key}-{runs}", held)
            held, size, runs = {}, 0, runs + 1
    if held:
        _write_run(folder, f"run-{key}-{runs}", held)
    if seen.hexdigest() != key:
        raise DataError(f"the files of {payload['name']} changed while they were read: try again")
    result = {"key": key}
    write_json(done, result)
    report({"bytes": unreported})
    return result


def _write_run(folder: Path, name: str, held: dict[bytes, bytes]) -> None:
    index = np.empty(len(held), dtype=_RECORD)
    offset = 0
    with (folder / f"{name}.text").open("wb") as file:
        for place, digest in enumerate(sorted(held)):
            index[place] = digest, offset, len(held[digest])
            offset += file.write(held[digest])
    with (folder / f"{name}.part").open("wb") as file:
        index.tofile(file)
    (folder / f"{name}.part").rename(folder / f"{name}.index")


def read_range(folder: Path, piece: Range) -> Iterator[bytes]:
    """The distinct documents of one range of hashes, in order. Memory holds the range's text."""
    indices, texts = [], []
    for path in sorted(folder.glob("run-*.index")):
        index = np.memmap(path, dtype=_RECORD, mode="r")
        first, last = (bisect.bisect_left(index, bound.rstrip(b"\0"), key=_digest) for bound in piece)
        if first == last:
            continue
        begin, end = int(index[first]["offset"]), int(index[last - 1]["offset"] + index[last - 1]["length"])
        with path.with_suffix(".text").open("rb") as file:
            file.seek(begin)
            texts.append(file.read(end - begin))
        found = np.empty(last - first, dtype=[*_RECORD.descr, ("run", "<u4")])
        for field in ("digest", "length"):
            found[field] = index[first:last][field]
        found["offset"] = index[first:last]["offset"] - begin
        found["run"] = len(texts) - 1
        indices.append(found)
    if not indices:
        return
    whole = np.concatenate(indices)
    before = None
    for place in np.argsort(whole["digest"], kind="stable"):
        digest, offset, length, number = whole[place].tolist()
        if digest != before:
            yield texts[number][offset : offset + length]
        before = digest


def split(folder: Path, share: float, survey: Survey, name: str) -> tuple[list[Range], list[Range]]:
    """The ranges of the training and of the validation documents. Raises DataError for a single document."""
    if share >= 1:
        return [], _divide(b"", END, survey.text_bytes)
    boundary = int(share * 2**64).to_bytes(8, "big")
    indices = [np.memmap(path, dtype=_RECORD, mode="r") for path in folder.glob("run-*.index")]
    lowest, highest = min(_digest(index[0]) for index in indices), max(_digest(index[-1]) for index in indices)
    if lowest == highest:
        raise DataError(
            f"the text is a single document of {int(indices[0][0]['length']):,} bytes: give more text, "
            "so that some of it can be kept for validation"
        )
    if boundary <= lowest:  # each side needs a document
        boundary = lowest.ljust(32, b"\0") + b"\1"
    elif boundary > highest:
        boundary = highest
    below = round(share * survey.text_bytes)
    return _divide(boundary, END, survey.text_bytes - below), _divide(b"", boundary, below)


def _divide(low: bytes, high: bytes, text_bytes: int) -> list[Range]:
    """Equal ranges with about a run of text each."""
    count = max(1, -(-text_bytes // run_bytes(text_bytes)))
    begin, end = (int.from_bytes(bound[:8].ljust(8, b"\0"), "big") for bound in (low, high))
    inner = [(begin + (end - begin) * place // count).to_bytes(8, "big") for place in range(1, count)]
    bounds = [low, *inner, high]
    return list(itertools.pairwise(bounds))


def _digest(record: Any) -> bytes:
    """A record's hash, without the zeros at its end, which NumPy drops; the order is the same."""
    return bytes(record["digest"])
