"""The channel between a launcher and its worker: run directories come in, events go out, a JSON value a line.

It begins as the standard input and output of the worker. ``open_channel`` takes both away from everybody else: what an
optimizer or a trainer prints goes to standard error, and what it tries to read is empty.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


class Channel:
    """``speaks``: whether this process is the one of its run that writes events."""

    def __init__(self, inbox: TextIO, outbox: TextIO, speaks: bool) -> None:
        self.inbox, self.outbox, self.speaks = inbox, outbox, speaks

    @property
    def files(self) -> tuple[int, int]:
        """File descriptors that no child of this process may have."""
        return self.inbox.fileno(), self.outbox.fileno()

    def emit(self, **event: Any) -> None:
        if self.speaks:
            self.outbox.write(json.dumps(event) + "\n")
            self.outbox.flush()

    def end_with_input(self) -> None:
        """End this process at once when its launcher dies or closes our input."""
        threading.Thread(target=lambda: (self.inbox.read(), os._exit(1)), daemon=True).start()

    def directories(self, arguments: list[str]) -> Iterator[Path]:
        """Run directories that a command line names: as they come where it is ``-``. ``--attached`` before them ends
        this process with its input."""
        if arguments[0] == "--attached":
            self.end_with_input()
            arguments = arguments[1:]
        yield from self._incoming() if arguments == ["-"] else map(Path, arguments)

    def _incoming(self) -> Iterator[Path]:
        """Directories as they come. When the launcher dies, its end of the pipe closes and this process ends."""
        lines: queue.Queue[str] = queue.Queue()
        idle = threading.Event()

        def read() -> None:
            for line in self.inbox:
                idle.clear()
                lines.put(line.strip())
            if not idle.is_set():
                os._exit(1)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        while True:
            if lines.empty():
                idle.set()
            line = lines.get()
            if not line:
                return
            yield Path(json.loads(line) if line.startswith('"') else line)


def open_channel(speaks: bool = True) -> Channel:
    """Standard input and output become the channel, for good."""
    sys.stdout.flush()
    inbox, outbox = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Channel(os.fdopen(inbox, encoding="utf-8"), os.fdopen(outbox, "w", encoding="utf-8"), speaks)
