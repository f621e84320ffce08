"""How the files of text are read, one document at a time.

* ``.jsonl`` - one document a line, in the field ``text`` (or the named column);
* ``.parquet`` - one document a row, in the column ``text`` (or the named one);
* any other file - one document, or several where a line holds only ``<|endoftext|>``;
* the first and the last also with ``.gz`` or ``.zst`` behind it.

A document longer than `LONG_DOCUMENT` is cut at blank lines: a text file of 200 MB becomes thousands of documents,
which can then be split into training and validation, and no single file can fill a split.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from fairstep.data.errors import DataError, needs_extra, readable

SEPARATOR = "<|endoftext|>"
LONG_DOCUMENT = 250_000  # characters
PIECE = 8_000  # characters, the least length of a piece of a long document
COLUMN = "text"
_ROWS = 1_000  # of a parquet file, held at once


def read(path: Path, column: str = COLUMN) -> Iterator[str]:
    """The documents of one file, blank ones left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        documents = _parquet_documents(path, column)
    else:
        documents = _line_documents(path, column, suffixes)
    for document in documents:
        if document and not document.isspace():
            yield from cut(document, PIECE) if len(document) > LONG_DOCUMENT else [document]


def cut(text: str, size: int) -> Iterator[str]:
    """Pieces of `size` to twice `size` characters, cut at the first blank line, else line, else word."""
    start = 0
    while len(text) - start > 2 * size:
        window = text[start : start + 2 * size]
        places = (window.find(mark, size) + len(mark) for mark in ("\n\n", "\n", " ") if mark in window[size:])
        end = start + next(places, size)
        yield text[start:end]
        start = end
    yield text[start:]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Put what can go wrong with a file into a sentence."""
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8: name text files only, for example '*.txt'") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {readable(error)}") from None


def _line_documents(path: Path, column: str, suffixes: list[str]) -> Iterator[str]:
    packed = suffixes[-1:] in ([".gz"], [".zst"])
    lines_of_json = suffixes[-2 if packed else -1 :][:1] == [".jsonl"]
    with reading(path), _open(path, suffixes) as raw:
        stream = TextIOWrapper(cast(IO[bytes], raw), encoding="utf-8-sig")
        yield from _json_documents(stream, path, column) if lines_of_json else _text_documents(stream, path)


@contextmanager
def _open(path: Path, suffixes: list[str]) -> Iterator[Any]:
    """The bytes of a file, unpacked."""
    if suffixes[-1:] == [".zst"]:
        with needs_extra("data", f"reading {path.name}"):
            import zstandard
        try:
            with zstandard.open(path, "rb") as raw:
                yield raw
        except zstandard.ZstdError as error:
            raise DataError(f"cannot read {path}: {error}") from None
    else:
        with gzip.open(path, "rb") if suffixes[-1:] == [".gz"] else path.open("rb") as raw:
            yield raw


def _text_documents(stream: TextIOWrapper, path: Path) -> Iterator[str]:
    """Documents between separator lines; what is held never grows much beyond a long document."""
    held: list[str] = []
    length, long = 0, False
    for line in iter(partial(stream.readline, LONG_DOCUMENT), ""):  # a line may be as long as the file
        if "\0" in line:
            raise DataError(f"{path} is not text (it has zero bytes): name text files only, for example '*.txt'")
        if line.strip() == SEPARATOR:
            yield from cut("".join(held), PIECE) if long else ["".join(held)]
            held, length, long = [], 0, False
            continue
        held.append(line)
        length += len(line)
        if length > LONG_DOCUMENT:
            *pieces, rest = cut("".join(held), PIECE)
            yield from pieces
            held, length, long = [rest], len(rest), True
    yield from cut("".join(held), PIECE) if long else ["".join(held)]


def _json_documents(stream: TextIOWrapper, path: Path, column: str) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if line.isspace():
            continue
        try:
            document = json.loads(line)
        except ValueError as error:
            message = f'{path}:{number} is not JSON ({error}): each line must be like {{"{column}": ...}}'
            raise DataError(message) from None
        if not isinstance(document, dict) or not isinstance(document.get(column), str):
            raise DataError(f'{path}:{number} has no text: each line must be an object with a string in "{column}"')
        yield document[column]


def _parquet_documents(path: Path, column: str) -> Iterator[str]:
    import polars

    with reading(path):
        try:
            frame = polars.scan_parquet(path, glob=False)
            columns = frame.collect_schema()
            if columns.get(column) != polars.String:
                texts = [name for name, kind in columns.items() if kind == polars.String]
                hint = f"its columns of text are {', '.join(texts)}: name one as the column" if texts else "it has none"
                raise DataError(f"{path} has no column {column!r} of text; {hint}")
            for rows in frame.select(column).collect_batches(chunk_size=_ROWS, maintain_order=True):
                yield from (text for text in rows[column] if text)
        except polars.exceptions.PolarsError as error:
            raise DataError(f"{path} is not a parquet file that can be read: {str(error).splitlines()[0]}") from None
