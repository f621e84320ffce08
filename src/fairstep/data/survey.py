"""Reading a collection to its end: its fingerprint, and how its files are dealt to workers.

The fingerprint depends on the texts alone: it is the SHA-256 over the SHA-256 of every distinct document, in the order
of these hashes. Names, order and compression of the files do not enter, nor how often a text is there. The first
version covered the names and the order too; it is still computed, so that a corpus of that version is found.

Files are read in *units* of some consecutive files, each by one worker. A unit's own hash names what the worker makes
of it later, so that work that was finished before a crash is found again, and a file that changed meanwhile is noticed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairstep.data import workers
from fairstep.data.documents import Collection
from fairstep.data.errors import DataError
from fairstep.data.formats import Form, read, reading
from fairstep.data.meta import VERSION_2

Progress = Callable[[str, float], None]  # (stage, fraction done)

RECIPE = 1  # part of every fingerprint: raise it when the same text would give other tokens
_DIGEST = 32  # bytes of a document's hash
FEW_DOCUMENTS = 20  # fewer are cut into pieces, else one of them would be more than its share of a split
_UNIT = 32_000_000  # bytes on disk of the files that one worker reads together
_TOGETHER = 500  # documents reported at once
_BLOCK = 1_000_000  # hashes looked at together


@dataclass(frozen=True)
class Survey:
    """What reading a collection to its end tells about it."""

    fingerprint: str
    first_fingerprint: str  # in the first version
    documents: int
    blank: int  # texts that were null, empty or white space
    distinct: int  # documents that differ
    text_bytes: int
    units: tuple[tuple[str, dict[str, Any]], ...]  # (hash, payload of the tasks that read it)

    @property
    def few(self) -> bool:
        return self.distinct < FEW_DOCUMENTS


def utf8(text: str) -> bytes:
    """The bytes of a text; halves of characters, which JSON can spell, become question marks."""
    return text.encode("utf-8", "replace")


def survey(collection: Collection, processes: int, report: Progress) -> Survey:
    """Read everything once. Raises DataError for a file that cannot be read, or when there is nothing in them."""
    units = list(_units(collection))
    size = collection.bytes_on_disk()
    first = hashlib.sha256(f"recipe {RECIPE}, Python {collection.python}\n".encode())
    waiting: dict[int, list[str]] = {}  # what later units say before the earlier ones are done
    current = documents = blank = text_bytes = 0
    digests = bytearray()

    def take(lines: str) -> None:
        nonlocal documents
        first.update(lines.encode())
        documents += lines.count("\n")
        digests.extend(bytes.fromhex("".join(line.rpartition(" ")[2] for line in lines.splitlines())))

    def hear(index: int, said: dict[str, Any]) -> None:
        nonlocal current, blank, text_bytes
        waiting.setdefault(index, []).append(said["lines"])
        text_bytes += said["bytes"]
        blank += said["blank"]
        if said["last"]:
            waiting[index].append("")  # the mark of a unit that has said everything
        while (lines := waiting.get(current)) is not None:
            for line in lines:
                take(line)
            if lines[-1:] != [""]:
                waiting[current] = []
                break
            del waiting[current]
            current += 1
        report("reading", min(text_bytes / size, 1.0))

    results = workers.run("survey", units, processes, hear)
    if not documents:
        texts = f" ({blank:,} texts)" if blank > 1 else ""
        raise DataError(f"nothing to read in {collection.name}: it is empty or white space{texts}")
    report("reading", 1.0)
    fingerprint, distinct = _of_texts(digests)
    # Equal units are sorted once: two workers would write the same files.
    keyed = {result["key"]: unit for result, unit in zip(results, units, strict=True)}
    return Survey(fingerprint, first.hexdigest(), documents, blank, distinct, text_bytes, tuple(keyed.items()))


def _of_texts(digests: bytearray) -> tuple[str, int]:
    """The fingerprint of distinct documents by their hashes, and how many there are. Sorts the hashes in place."""
    found = np.frombuffer(digests, dtype=f"S{_DIGEST}")
    found.sort()
    fingerprint = hashlib.sha256(f"recipe {RECIPE}\n".encode())
    distinct, before = 0, None
    for start in range(0, len(found), _BLOCK):
        block = found[start : start + _BLOCK]
        new = np.append(block[:1] != before, block[1:] != block[:-1])
        distinct += int(np.count_nonzero(new))
        fingerprint.update(block[new].tobytes())
        before = block[-1]
    return VERSION_2 + fingerprint.hexdigest(), distinct


def survey_unit(payload: dict[str, Any], report: workers.Report) -> dict[str, Any]:
    """The lines that a unit adds to the fingerprint, as reports, and its own hash."""
    key = hashlib.sha256()
    lines: list[str] = []
    size = blank = 0

    def flush(last: bool) -> None:
        nonlocal size, blank
        text = "".join(lines)
        report({"lines": text, "bytes": size, "blank": blank, "last": last})
        lines.clear()
        size = blank = 0

    for name, text in read_unit(payload):
        if not text:
            blank += 1
            continue
        data = utf8(text)
        key.update(hashlib.sha256(data).digest())
        lines.append(f"{name} {hashlib.sha256(data).hexdigest()}\n")
        size += len(data)
        if len(lines) >= _TOGETHER:
            flush(last=False)
    flush(last=True)
    return {"key": key.hexdigest()}


def read_unit(payload: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The documents of a unit as (name, text); blank ones have an empty text and no number."""
    form = Form(**payload["form"])
    for name, path in payload["files"]:
        number = 0
        for text in read(Path(path), form):
            yield f"{name}#{number}", text
            number += bool(text)


def _units(collection: Collection) -> Iterator[dict[str, Any]]:
    files: list[tuple[str, str]] = []
    size = 0
    for name, path in collection.files:
        with reading(path):
            length = path.stat().st_size
        if files and size + length > _UNIT:
            yield {"files": files, "form": asdict(collection.form)}
            files, size = [], 0
        files.append((name, str(path)))
        size += length
    yield {"files": files, "form": asdict(collection.form)}
