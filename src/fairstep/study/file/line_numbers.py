"""Where in a TOML file a value is written, so that an error can name the line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from fairstep.runs.frozen import explain

KeyPath = tuple[str | int, ...]
"""Keys and places of tables in arrays: ("cells", 0, "model")."""

_KEY = r'[A-Za-z0-9_-]+|"[^"]*"|\'[^\']*\''
_DOTTED = rf"(?:{_KEY})(?:\s*\.\s*(?:{_KEY}))*"


class StudyError(ValueError):
    """A study file cannot be carried out: file, line, what is wrong with which value, and what would be right."""


class WrongKey(ValueError):
    """What is wrong with a table, and with which of its keys."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


@contextmanager
def about(key: str, before: str = "") -> Iterator[None]:
    """What is wrong inside (ValueError) is wrong with this key. ``before``: of the sentence."""
    try:
        yield
    except ValueError as error:
        raise WrongKey(key, f"{before}{error}") from None


class LineNumbers:
    """The lines of a file by what they define. Tables and keys are found by their form; the text must be valid TOML."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self._lines: dict[KeyPath, int] = {}
        arrays: Counter[KeyPath] = Counter()
        table: KeyPath = ()
        for number, line in enumerate(text.splitlines(), 1):
            if match := re.match(rf"\s*\[\[\s*({_DOTTED})\s*\]\]", line):
                name = self._within(_keys(match[1]), arrays)
                table = (*name, arrays[name])
                arrays[name] += 1
                self._lines.setdefault(name, number)
            elif match := re.match(rf"\s*\[\s*({_DOTTED})\s*\]\s*(#.*)?$", line):
                table = self._within(_keys(match[1]), arrays)
            elif match := re.match(rf"\s*({_DOTTED})\s*=", line):
                self._lines.setdefault((*table, *_keys(match[1])), number)
                continue
            else:
                continue
            self._lines.setdefault(table, number)

    @staticmethod
    def _within(name: tuple[str, ...], arrays: Counter[KeyPath]) -> KeyPath:
        """A table inside the latest table of an array: [contestants.grid] is of contestants[-1]."""
        table: KeyPath = ()
        for place, key in enumerate(name):
            table = (*table, key)
            if place < len(name) - 1 and arrays[table]:
                table = (*table, arrays[table] - 1)
        return table

    def of(self, path: Sequence[str | int]) -> int:
        """The line of a value, or of the nearest table around it; 1 if there is none."""
        place = tuple(path)
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)

    def error(self, path: Sequence[str | int], sentence: str) -> StudyError:
        return StudyError(f"{self.file}, line {self.of(path)}: {sentence}")

    @contextmanager
    def at(self, *path: str | int, before: str = "") -> Iterator[None]:
        """What is wrong inside (ValueError) is a StudyError of this place, or of the key in it that a WrongKey names.
        ``before``: of the sentence."""
        try:
            yield
        except StudyError:
            raise
        except ValueError as error:
            key = [error.key] if isinstance(error, WrongKey) else []
            sentence = explain(error) if isinstance(error, ValidationError) else str(error)
            raise self.error([*path, *key], before + sentence) from None


class NoLines(LineNumbers):
    """Of a study that is in no file: an error is the sentence alone."""

    def __init__(self) -> None:
        super().__init__(Path(), "")

    def error(self, path: Sequence[str | int], sentence: str) -> StudyError:
        return StudyError(sentence)


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in re.findall(_KEY, dotted))
