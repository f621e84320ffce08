"""A callable as trainer: found by its path, called with a run's values, and listened to while it runs."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fairstep.external.output import Output, TrialError
from fairstep.runs import CommandSpec, Value, callables


def load(path: str, directory: str = "") -> Callable[..., Any]:
    """The function of ``package.module:function`` or ``path/file.py:function``. Raises TrialError; what the module's
    own code raises goes through."""
    try:
        return callables.load(path, directory, "trainer")
    except callables.NotFoundError as error:
        raise TrialError(str(error)) from None


def accepted(function: Callable[..., Any]) -> tuple[set[str], bool]:
    """Names of a function's arguments, and whether it takes any other."""
    parameters = inspect.signature(function).parameters.values()
    by_name = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return by_name, any(one.kind is one.VAR_KEYWORD for one in parameters)


def arguments_of(function: Callable[..., Any], spec: CommandSpec, out: Path) -> dict[str, Any]:
    """What the function is called with; of the run's length and folder, what it takes."""
    names, any_name = accepted(function)
    values: dict[str, Value | Path] = {**spec.values(), "out": out}
    optional = {"steps", "tokens", "out"} - spec.cell.keys() - spec.settings.keys()
    return {name: value for name, value in values.items() if any_name or name in names or name not in optional}


class Printed(io.TextIOBase):
    """Standard output of a callable in this process, as far as Python writes it."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def write(self, text: str) -> int:
        self.output.feed(text.encode(errors="replace"))
        return len(text)


@contextlib.contextmanager
def printed_to(output: Output) -> Iterator[None]:
    """Standard output and error of this process, and of what it starts, go to ``output``."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    inbox, outbox = os.pipe()
    for file in (1, 2):
        os.dup2(outbox, file)
    os.close(outbox)

    def read() -> None:
        while chunk := os.read(inbox, 1 << 18):
            output.feed(chunk)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for file, before in zip((1, 2), kept, strict=True):
            os.dup2(before, file)
            os.close(before)
        thread.join(timeout=5)  # a child of the trainer may hold the pipe open
        if not thread.is_alive():
            os.close(inbox)
