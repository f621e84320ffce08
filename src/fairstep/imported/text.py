"""What is wrong with the text of a table, in words, where no reader can say it."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from pathlib import Path
from typing import BinaryIO

SEPARATORS = (",", ";", "\t", "|")
WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
HEAD = 1 << 20
"""Bytes of a file that are looked at before it is read."""


def open_bytes(given: Path | bytes) -> BinaryIO:
    return given.open("rb") if isinstance(given, Path) else io.BytesIO(given)


def head_of(given: Path | bytes) -> bytes:
    with open_bytes(given) as file:
        return file.read(HEAD)


def encoding_problem(head: bytes) -> str:
    """Why the first bytes are no text in UTF-8, or nothing."""
    for mark, name in WIDE.items():
        if head.startswith(mark):
            return f"is {name}; save it as UTF-8"
    if b"\0" in head:
        return "holds NUL bytes, as UTF-16 without a mark does; save it as UTF-8"
    if b"\r" in head and b"\n" not in head:
        return "has line ends of one carriage return; save it with line feeds"
    return ""


def separator_of(head: bytes) -> str:
    """Of a header row: whichever it has most of."""
    line, *_ = head.removeprefix(codecs.BOM_UTF8).lstrip().splitlines() or [b""]
    return max(SEPARATORS, key=lambda letter: line.count(letter.encode()))


def repeated_column(head: bytes, separator: str) -> str:
    """A name that the header has twice, or nothing."""
    text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").lstrip()
    names = next(csv.reader(io.StringIO(text), delimiter=separator), [])
    return next((name for name, count in Counter(names).items() if count > 1), "")


def wrong_row(given: Path | bytes, separator: str) -> str:
    """The first row that is not in UTF-8 or has more fields than the header, in words, or nothing."""
    with open_bytes(given) as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].splitlines() or [b""]
        return f"row {len(before)} is not in UTF-8; save it as UTF-8"
    width = 0
    try:
        for number, fields in enumerate(csv.reader(io.StringIO(text), delimiter=separator), 1):
            width = width or len(fields)
            if len(fields) > width:
                return f"row {number} has {len(fields)} fields, and the header {width}"
    except csv.Error:
        return ""
    return ""
