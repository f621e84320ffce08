"""What a trainer prints: kept in a bounded file, and searched line by line for progress and losses."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from fairstep.runs import open_own
from fairstep.runs.command_spec import loss_group

PROGRESS = r"\bstep\W*(?P<step>\d+)\b.*?loss\W*?(?P<loss>[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf))"
"""Lines such as "step 100/1000 loss 3.21", "step:100 val_loss:3.21" or {"step": 100, "loss": 3.21}."""
MOST = 2_000_000
"""Bytes of the file, of which the first and the last quarter are kept when there are more."""
LONGEST_LINE = 65_536
LAST_LINES = 20


class TrialError(ValueError):
    """An attempt at a trial came to nothing; why, in a sentence."""


class Output:
    """``progress``: pattern of lines with a step and a loss. ``loss``: pattern of the final loss, or nothing.

    ``heard`` is called for every chunk, with the last (step, loss) in it if there is one.
    """

    def __init__(
        self,
        path: Path,
        progress: str = "",
        loss: str = "",
        heard: Callable[[tuple[int, float] | None], object] = lambda seen: None,
    ) -> None:
        self.path, self.heard = path, heard
        path.unlink(missing_ok=True)
        self._file = open_own(path, "ab")
        self._size = 0
        self._rest = b""
        self._progress = _Pattern(progress or PROGRESS, step=True)
        self._loss = _Pattern(loss) if loss else None
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines."""
        self.losses: list[tuple[int | None, float]] = []
        """Matches of the loss: (step where the pattern has one, loss); of many, the last ones."""
        self.latest: tuple[int, float] | None = None
        """The last progress."""

    def feed(self, chunk: bytes) -> None:
        """Take what was printed."""
        self._keep(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        self._read(lines)

    def close(self) -> None:
        """The end of the output; a last line needs no line feed."""
        if self._rest:
            self._read([self._rest])
            self._rest = b""
        self._file.close()

    def words(self, count: int = 3) -> str:
        """The last lines in one."""
        lines = [line for line in self.last if line.strip()]
        return " | ".join(line.strip()[-200:] for line in lines[-count:])

    def _keep(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._file.flush()
        self._size += len(chunk)
        if self._size > MOST:
            self._file.close()
            kept = self.path.read_bytes()
            start, end = kept[: MOST // 4], kept[-MOST // 4 :]
            self.path.write_bytes(start + b"\n... left out ...\n" + end)
            self._file = open_own(self.path, "ab")
            self._size = len(start) + len(end)

    def _read(self, lines: list[bytes]) -> None:
        if not lines:
            self.heard(None)
            return
        self.last.extend(line.decode(errors="replace") for line in lines[-LAST_LINES:])
        silent = True
        for step, value in self._progress.found(lines):
            if step is not None:
                silent, self.latest = False, (step, value)
                self.heard(self.latest)
        if self._loss is not None:
            self.losses.extend(self._loss.found(lines))
            del self.losses[:-10_000]
        if silent:
            self.heard(None)


class _Pattern:
    def __init__(self, pattern: str, step: bool = False) -> None:
        flags = re.IGNORECASE if pattern == PROGRESS else 0
        self.compiled = re.compile(pattern.encode(), flags | re.MULTILINE)
        named = self.compiled.groupindex
        self.step: str | int | None = "step" if "step" in named else 1 if step else None
        self.loss: str | int = "loss" if "loss" in named else 2 if step else loss_group(pattern)

    def found(self, lines: list[bytes]) -> Iterator[tuple[int | None, float]]:
        """(step, loss) of every line that has them; of none with words where numbers should be."""
        if not self.compiled.search(b"\n".join(lines)):  # of most chunks, and faster than line by line
            return
        for match in filter(None, map(self.compiled.search, lines)):
            with contextlib.suppress(TypeError, ValueError):
                yield None if self.step is None else int(match[self.step]), float(match[self.loss])
