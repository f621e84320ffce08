"""How the files of text are read, one document at a time.

* ``.jsonl``, ``.ndjson``, ``.json`` - an object a document, a line each, one behind the other or in an array; the text
  is in the field ``text`` (or the named column);
* ``.csv``, ``.tsv`` - a row a document, under the header ``text`` (or the named column);
* ``.parquet`` - a row a document, in the column ``text`` (or the named one);
* any other file - one document, or several where a line holds only ``<|endoftext|>``;
* all but parquet also compressed, see `fairstep.data.unpacking`.

A text that is null, empty or white space is given as the empty text, by every format alike, so that it can be counted.
A plain text keeps its characters but for its line ends, which become ``\n``; a text that is a value of JSON, CSV or
parquet keeps all of them.

A document longer than `LONG_DOCUMENT` is cut at blank lines: a text file of 200 MB becomes thousands of documents,
which can then be split into training and validation, and no single file can fill a split.
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from fairstep.data.errors import DataError, readable
from fairstep.data.rows import choice, json_documents, table_documents
from fairstep.data.unpacking import ENDINGS, HEAD, unpacked

SEPARATOR = "<|endoftext|>"
LONG_DOCUMENT = 250_000  # characters
PIECE = 8_000  # characters, the least length of a piece of a long document
COLUMN = "text"
FORMATS = ("auto", "text", "json", "csv", "tsv", "parquet")
_ROWS = 1_000  # of a parquet file, held at once
_NAMES = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".jsonlines", ".jl", ".ldjson"), "json"),
    **dict.fromkeys((".csv",), "csv"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".parq", ".pq"), "parquet"),
}
_TOKENS = (".bin", ".npy", ".npz", ".ds", ".idx", ".mds", ".pt", ".pkl", ".safetensors")
_ARROW = (".arrow", ".feather", ".ipc", ".avro", ".orc")


@dataclass(frozen=True)
class Form:
    """How files are to be read; `format` auto goes by their names."""

    column: str = COLUMN
    format: str = "auto"
    encoding: str = "utf-8"

    def check(self) -> None:
        """Raises DataError for a format or an encoding that there is not."""
        if self.format not in FORMATS:
            raise DataError(f"the format {self.format!r} is not known: say one of {', '.join(FORMATS)}")
        try:
            "text".encode(self.encoding)
        except (LookupError, UnicodeError):
            raise DataError(
                f"the encoding {self.encoding!r} is not known: say one such as utf-8, latin-1, cp1252 or utf-16"
            ) from None


PLAIN = Form()


def read(path: Path, form: Form = PLAIN) -> Iterator[str]:
    """The documents of one file; one that is null, empty or white space is the empty text."""
    name = re.sub("|".join(re.escape(ending) + "$" for ending in ENDINGS), "", path.name.lower())
    kind = _NAMES.get(Path(name).suffix, "text") if form.format == "auto" else form.format
    if kind != "parquet" and _is_parquet(path):
        kind = "parquet"
    if kind == "parquet":
        documents = _parquet_documents(path, form.column)
    else:
        documents = _line_documents(path, form, kind, Path(name).suffix)
    for document in documents:
        if not document or document.isspace():
            yield ""
        elif len(document) > LONG_DOCUMENT:
            yield from _visible(cut(document, PIECE))
        else:
            yield document


def _visible(pieces: Iterable[str]) -> Iterator[str]:
    return (piece for piece in pieces if not piece.isspace())


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
def reading(path: Path, encoding: str = "utf-8") -> Iterator[None]:
    """Put what can go wrong with a file into a sentence."""
    try:
        yield
    except UnicodeError:
        name = "UTF-8" if encoding == "utf-8" else encoding
        raise DataError(
            f"{path} is not text in {name}: name text files only, for example '*.txt', or say its encoding, for "
            "example `fairstep data prepare --encoding latin-1`"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {readable(error)}") from None


def _is_parquet(path: Path) -> bool:
    with reading(path), path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _line_documents(path: Path, form: Form, kind: str, suffix: str) -> Iterator[str]:
    if kind == "text" and form.format == "auto" and suffix in _TOKENS:
        raise DataError(
            f"{path} is not text by its name: of token files only *.bin are read, and not together with text "
            "(--format text reads it as text all the same)"
        )
    if kind == "text" and suffix in _ARROW:
        raise DataError(f"{path} cannot be read: save it as parquet, or as JSON lines")
    encoding = "utf-8-sig" if form.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else form.encoding
    with reading(path, form.encoding), unpacked(path) as raw:
        head = raw.peek(HEAD)[:HEAD].decode(encoding, "ignore")
        # The line ends of values are kept as they are.
        stream = TextIOWrapper(raw, encoding=encoding, newline="" if kind in ("csv", "tsv") else None)
        if kind == "json":
            yield from json_documents(stream, head, path, form.column)
        elif kind in ("csv", "tsv"):
            yield from table_documents(stream, path, form.column, ",;\t|" if kind == "csv" else "\t,;|")
        else:
            if form.format == "auto":
                _question(head, path, form.column)
            yield from _text_documents(stream, path)


def _question(head: str, path: Path, column: str) -> None:
    """Raises DataError for a plain text that begins as the data of another format does."""
    line, end, _ = head.lstrip().partition("\n")
    looks = ""
    if re.match(r'\s*(\[\s*)?\{\s*"(\\.|[^"\\])*"\s*:', head):
        try:
            whole = isinstance(json.loads(line), dict | list)
        except (ValueError, RecursionError):
            whole = not end  # longer than what was looked at
        if whole or re.search(rf'"{re.escape(column)}"\s*:', head):
            looks = "json"
    fields = [field.strip().strip('"') for field in re.split(r"[,;\t|]", line)]
    if len(fields) > 1 and column in fields and all(re.fullmatch(r"[\w .-]{0,40}", field) for field in fields):
        looks = "csv"
    if looks:
        raise DataError(
            f"{path} begins like {looks.upper()} and is called a plain text: give it a name that ends in .{looks}, or "
            f"say which it is, with `fairstep data prepare --format {looks}` or --format text"
        )


def _text_documents(stream: TextIOWrapper, path: Path) -> Iterator[str]:
    """Documents between separator lines; what is held never grows much beyond a long document."""
    held: list[str] = []
    length, long = 0, False
    for line in iter(partial(stream.readline, LONG_DOCUMENT), ""):  # a line may be as long as the file
        if "\0" in line:
            raise DataError(
                f"{path} is not text (it has zero bytes): name text files only, for example '*.txt', or say its "
                "encoding, for example `fairstep data prepare --encoding utf-16`"
            )
        if line.strip() == SEPARATOR:
            yield from _rest("".join(held), long)
            held, length, long = [], 0, False
            continue
        held.append(line)
        length += len(line)
        if length > LONG_DOCUMENT:
            *pieces, rest = cut("".join(held), PIECE)
            yield from _visible(pieces)
            held, length, long = [rest], len(rest), True
    if held:
        yield from _rest("".join(held), long)


def _rest(text: str, long: bool) -> Iterable[str]:
    """The document that has come to its end, or what is still missing of a long one."""
    return _visible(cut(text, PIECE)) if long else [text]


def _parquet_documents(path: Path, column: str) -> Iterator[str]:
    import polars

    with reading(path):
        try:
            frame = polars.scan_parquet(path, glob=False)
            columns = frame.collect_schema()
            if columns.get(column) != polars.String:
                texts = [name for name, kind in columns.items() if kind == polars.String]
                raise DataError(f"{path} has no column {column!r} of text; {choice(texts)}")
            for rows in frame.select(column).collect_batches(chunk_size=_ROWS, maintain_order=True):
                yield from (text or "" for text in rows[column])
        except polars.exceptions.PolarsError as error:
            raise DataError(f"{path} is not a parquet file that can be read: {str(error).splitlines()[0]}") from None
