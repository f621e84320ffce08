"""Documents that are values: objects of JSON, rows of tables with a header.

Memory holds one value, and what was read with it. A value longer than `LONGEST_VALUE` is refused, because a file of
kilobytes can unpack to one of gigabytes.
"""

import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from fairstep.data.errors import DataError
from fairstep.data.unpacking import HEAD

LONGEST_VALUE = 64_000_000  # characters of a line or a value
_SHOWN = 12  # names of columns in a message


def lines(stream: TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, none of them longer than memory can bear."""
    for number, line in enumerate(iter(partial(stream.readline, LONGEST_VALUE + 1), ""), start=1):
        if len(line) > LONGEST_VALUE:
            raise DataError(f"{path}:{number} is longer than {LONGEST_VALUE:,} characters: divide it into several")
        yield number, line


def json_documents(stream: TextIOWrapper, head: str, path: Path, column: str) -> Iterator[str]:
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
    for number, line in lines(stream, path):
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
        hint = choice([str(name) for name, content in value.items() if isinstance(content, str)])
    elif isinstance(value, dict):
        hint = f"there is {_KINDS.get(type(value[column]), 'a number')}"
    else:
        hint = f"it is {_KINDS.get(type(value), 'a number')}"
    raise DataError(f'{place} has no text: each line must be an object with a string in "{column}", and {hint}')


_KINDS = {list: "a list", dict: "an object", str: "a string", bool: "true or false", type(None): "null"}


def choice(texts: list[str]) -> str:
    """What to say of the columns that a file has."""
    if not texts:
        return "it has no column of text"
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"its columns of text are {', '.join(texts[:_SHOWN])}{more}: name one with `fairstep data prepare --column`"


def table_documents(stream: TextIOWrapper, path: Path, column: str, delimiters: str) -> Iterator[str]:
    """The texts of a table with a header."""
    csv.field_size_limit(LONGEST_VALUE)
    each_line = (line for _, line in lines(stream, path))
    header = next((line for line in each_line if not line.isspace()), "")
    headers = {each: [name.strip() for name in next(csv.reader([header], delimiter=each), [])] for each in delimiters}
    delimiter = next((each for each, names in headers.items() if column in names), None)
    if delimiter is None:
        names = max(headers.values(), key=len)
        raise DataError(
            f"{path} has no column {column!r} in its first line; {choice([name for name in names if name])}"
        )
    names = headers[delimiter]
    if names.count(column) > 1:
        raise DataError(f"{path} has {names.count(column)} columns called {column!r}: give each a name of its own")
    place, rows = names.index(column), csv.reader(each_line, delimiter=delimiter, strict=True)
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
