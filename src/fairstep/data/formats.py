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

import csv
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from fairstep.data.errors import DataError, readable
from fairstep.data.unpacking import ENDINGS, HEAD, unpacked

SEPARATOR = "<|endoftext|>"
LONG_DOCUMENT = 250_000  # characters
LONGEST_VALUE = 64_000_000  # characters of a line or a value of JSON or CSV, which memory holds as a whole
PIECE = 8_000  # characters, the least length of a piece of a long document
COLUMN = "text"
FORMATS = ("auto", "text", "json", "csv", "tsv", "parquet")
_ROWS = 1_000  # of a parquet file, held at once
_SHOWN = 12  # names of columns in a message
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
            yield from (piece for piece in cut(document, PIECE) if not piece.isspace())
        else:
            yield document


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
        stream = TextIOWrapper(cast(IO[bytes], raw), encoding=encoding, newline="" if kind in ("csv", "tsv") else None)
        if kind == "json":
            yield from _json_documents(stream, head, path, form.column)
        elif kind in ("csv", "tsv"):
            yield from _rows(stream, path, form.column, ",;\t|" if kind == "csv" else "\t,;|")
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
            yield from _rest(held, long)
            held, length, long = [], 0, False
            continue
        held.append(line)
        length += len(line)
        if length > LONG_DOCUMENT:
            *pieces, rest = cut("".join(held), PIECE)
            yield from (piece for piece in pieces if not piece.isspace())
            held, length, long = [rest], len(rest), True
    if held:
        yield from _rest(held, long)


def _rest(held: list[str], long: bool) -> Iterator[str]:
    """The document that has come to its end, or what is still missing of a long one."""
    document = "".join(held)
    yield from (piece for piece in cut(document, PIECE) if not piece.isspace()) if long else [document]


def _lines(stream: TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, none of them longer than memory can bear."""
    for number, line in enumerate(iter(partial(stream.readline, LONGEST_VALUE + 1), ""), start=1):
        if len(line) > LONGEST_VALUE:
            raise DataError(f"{path}:{number} is longer than {LONGEST_VALUE:,} characters: divide it into several")
        yield number, line


def _json_documents(stream: TextIOWrapper, head: str, path: Path, column: str) -> Iterator[str]:
    start = head.lstrip()
    if re.match(r"\[\s*(\{|\]\s*$|$)", start):
        values = _values(stream, path, column, array=True)
    elif start.startswith("{") and "\n" in start and not _whole(start.split("\n")[0]):
        values = _values(stream, path, column, array=False)
    else:
        values = _line_values(stream, path, column)
    for place, value in values:
        yield _text_of(value, place, column)


def _whole(line: str) -> bool:
    """Whether a line is a value by itself."""
    try:
        json.loads(line)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _line_values(stream: TextIOWrapper, path: Path, column: str) -> Iterator[tuple[str, Any]]:
    for number, line in _lines(stream, path):
        if not line.isspace():
            try:
                yield f"{path}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _no_json(f"{path}:{number}", error, column) from None


def _values(stream: TextIOWrapper, path: Path, column: str, array: bool) -> Iterator[tuple[str, Any]]:
    """Values one behind the other, or the elements of an array; memory holds one of them and what was read with it."""
    decoder = json.JSONDecoder()
    text, place, line, ended = "", 0, 1, False
    between = " \t\r\n,[" if array else " \t\r\n"
    while True:
        while place < len(text) and text[place] in between:
            place += 1
            between = between.replace("[", "") if text[place - 1] == "[" else between
        if array and text[place : place + 1] == "]":
            if (text[place + 1 :] + stream.read(HEAD)).strip():
                raise DataError(
                    f"{path} has more behind the end of its array: name a file with one array, or a line each"
                )
            return
        where = f"{path}:{line + text.count(chr(10), 0, place)}"
        try:
            if place < len(text):
                value, end = decoder.raw_decode(text, place)
                yield where, value
                place = end
                continue
        except RecursionError as error:
            raise _no_json(where, error, column) from None
        except ValueError as error:
            if ended:
                raise _no_json(where, error, column) from None
        if ended and array:
            raise DataError(f"{path} ends in the middle of its array: fetch it again")
        if ended:
            return
        if len(text) - place > LONGEST_VALUE:
            raise DataError(f"{where} begins a value of more than {LONGEST_VALUE:,} characters, or is not JSON")
        line += text.count("\n", 0, place)
        more = stream.read(max(HEAD, len(text) - place))
        text, place, ended = text[place:] + more, 0, not more


def _no_json(place: str, error: Exception, column: str) -> DataError:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return DataError(f'{place} is not JSON ({reason}): each line must be like {{"{column}": ...}}')


def _text_of(value: Any, place: str, column: str) -> str:
    """The text of an object; the empty one for null."""
    if isinstance(value, dict) and (column not in value or isinstance(value[column], str | None)):
        if column in value:
            return value[column] or ""
        hint = _choice([str(name) for name, content in value.items() if isinstance(content, str)])
    elif isinstance(value, dict):
        hint = f"there is {_KINDS.get(type(value[column]), 'a number')}"
    else:
        hint = f"it is {_KINDS.get(type(value), 'a number')}"
    raise DataError(f'{place} has no text: each line must be an object with a string in "{column}", and {hint}')


_KINDS = {list: "a list", dict: "an object", str: "a string", bool: "true or false", type(None): "null"}


def _choice(texts: list[str]) -> str:
    """What to say of the columns that a file has."""
    if not texts:
        return "it has no column of text"
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"its columns of text are {', '.join(texts[:_SHOWN])}{more}: name one with `fairstep data prepare --column`"


def _rows(stream: TextIOWrapper, path: Path, column: str, delimiters: str) -> Iterator[str]:
    """The texts of a table with a header."""
    csv.field_size_limit(LONGEST_VALUE)
    lines = (line for _, line in _lines(stream, path))
    header = next((line for line in lines if not line.isspace()), "")
    headers = {each: [name.strip() for name in next(csv.reader([header], delimiter=each), [])] for each in delimiters}
    delimiter = next((each for each, names in headers.items() if column in names), None)
    if delimiter is None:
        names = max(headers.values(), key=len)
        raise DataError(
            f"{path} has no column {column!r} in its first line; {_choice([name for name in names if name])}"
        )
    names = headers[delimiter]
    if names.count(column) > 1:
        raise DataError(f"{path} has {names.count(column)} columns called {column!r}: give each a name of its own")
    place, rows = names.index(column), csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in rows:
            number = rows.line_num + 1
            if row and len(row) != len(names):
                raise DataError(
                    f"{path}:{number} has {len(row)} fields and the first line {len(names)}: put quotes around a text "
                    "that holds the separator"
                )
            if row:
                yield row[place]
    except csv.Error as error:
        raise DataError(f"{path}:{number + 1} is no row of a table ({error}): put quotes around texts") from None


def _parquet_documents(path: Path, column: str) -> Iterator[str]:
    import polars

    with reading(path):
        try:
            frame = polars.scan_parquet(path, glob=False)
            columns = frame.collect_schema()
            if columns.get(column) != polars.String:
                texts = [name for name, kind in columns.items() if kind == polars.String]
                raise DataError(f"{path} has no column {column!r} of text; {_choice(texts)}")
            for rows in frame.select(column).collect_batches(chunk_size=_ROWS, maintain_order=True):
                yield from (text or "" for text in rows[column])
        except polars.exceptions.PolarsError as error:
            raise DataError(f"{path} is not a parquet file that can be read: {str(error).splitlines()[0]}") from None
