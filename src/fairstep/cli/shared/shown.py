"""Texts of other people on a terminal: what would steer it is shown instead.

A name, a note or a message comes from a store, a file or an optimizer that anyone may have written. ``shown`` is the
one function that makes it harmless, and ``harmless`` puts it before everything that ``print`` writes.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Controls but tab and line feed, marks that change the direction of text, and halves of characters."""


def shown(text: object) -> str:
    """The text with every control character as its escape: ESC becomes \\x1b."""
    return STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


class Harmless:
    """A text stream that writes ``shown`` texts. ``within`` is the stream itself, for what draws on the terminal."""

    def __init__(self, within: Any) -> None:
        self.within = within

    def write(self, text: str) -> int:
        return int(self.within.write(shown(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.within, name)


@contextlib.contextmanager
def harmless() -> Iterator[None]:
    """Standard output writes ``shown`` texts meanwhile."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without these letters
    with contextlib.redirect_stdout(Harmless(sys.stdout)):
        yield


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Standard output as it is meanwhile, for a library that draws on it. Nothing of a store may be in there."""
    with contextlib.redirect_stdout(getattr(sys.stdout, "within", sys.stdout)):
        yield
