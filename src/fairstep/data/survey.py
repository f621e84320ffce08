"""Reading a collection to its end: its fingerprint, and how its files are dealt to workers.

The fingerprint is the SHA-256 over the name and the SHA-256 of every document, in order. A worker reads a *unit* of
consecutive files. The unit's hash names what the worker makes of it later. Work that was finished before a crash is
found again by that name, and a file that changed meanwhile is noticed.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairstep.data import workers
from fairstep.data.documents import Collection, documents_of, reading
from fairstep.data.errors import DataError

Progress = Callable[[str, float], None]  # (stage, fraction done)

RECIPE = 1  # part of every fingerprint: raise it when the same text would give other tokens
FEW_DOCUMENTS = 20  # fewer are cut into pieces, else one of them would be more than its share of a split
_UNIT = 32_000_000  # bytes on disk of the files that one worker reads together
_TOGETHER = 500  # documents reported at once


@dataclass(frozen=True)
class Survey:
    """What reading a collection to its end tells about it."""

    fingerprint: str
    documents: int
    distinct: int  # documents that differ, counted up to FEW_DOCUMENTS
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
    fingerprint = hashlib.sha256(f"recipe {RECIPE}, Python {collection.python}\n".encode())
    waiting: dict[int, list[str]] = {}  # what later units say before the earlier ones are done
    current = documents = text_bytes = 0
    distinct: set[str] = set()

    def take(lines: str) -> None:
        nonlocal documents
        fingerprint.update(lines.encode())
        documents += lines.count("\n")
        if len(distinct) < FEW_DOCUMENTS:
            distinct.update(line.rpartition(" ")[2] for line in lines.splitlines())

    def hear(index: int, said: dict[str, Any]) -> None:
        nonlocal current, text_bytes
        waiting.setdefault(index, []).append(said["lines"])
        text_bytes += said["bytes"]
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
        raise DataError(f"nothing to read in {collection.name}: it is empty or white space")
    report("reading", 1.0)
    keys = [result["key"] for result in results]
    return Survey(fingerprint.hexdigest(), documents, len(distinct), text_bytes, tuple(zip(keys, units, strict=True)))


def survey_unit(payload: dict[str, Any], report: workers.Report) -> dict[str, Any]:
    """The lines that a unit adds to the fingerprint, as reports, and its own hash."""
    key = hashlib.sha256()
    lines: list[str] = []
    size = 0

    def flush(last: bool) -> None:
        nonlocal size
        text = "".join(lines)
        key.update(text.encode())
        report({"lines": text, "bytes": size, "last": last})
        lines.clear()
        size = 0

    for name, text in read_unit(payload):
        data = utf8(text)
        lines.append(f"{name} {hashlib.sha256(data).hexdigest()}\n")
        size += len(data)
        if len(lines) >= _TOGETHER:
            flush(last=False)
    flush(last=True)
    return {"key": key.hexdigest()}


def read_unit(payload: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The documents of a unit as (name, text)."""
    yield from documents_of(((name, Path(path)) for name, path in payload["files"]), payload["column"])


def _units(collection: Collection) -> Iterator[dict[str, Any]]:
    files: list[tuple[str, str]] = []
    size = 0
    for name, path in collection.files:
        with reading(path):
            length = path.stat().st_size
        if files and size + length > _UNIT:
            yield {"files": files, "column": collection.column}
            files, size = [], 0
        files.append((name, str(path)))
        size += length
    yield {"files": files, "column": collection.column}
