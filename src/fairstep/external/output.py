"""What a trainer prints: kept in a bounded file, and searched line by line for progress and losses."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fairstep.runs import open_own
from fairstep.runs.command_spec import loss_group

PROGRESS = r"\bstep\W*(?P<step>\d+)\b.*?loss\W*?(?P<loss>[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf))"
"""Lines such as "step 100/1000 loss 3.21", "step:100 val_loss:3.21" or {"step": 100, "loss": 3.21}."""
MOST = 2_000_000
"""Bytes of the file, of which the first and the last quarter are kept when there are more."""
LONGEST_LINE = 65_536
LAST_LINES = 20
COLOUR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
"""What sets a terminal's colour, or moves its cursor."""
EXPONENT = re.compile(rb"[eE][-+]?\d+")
GROUPED = re.compile(rb"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![,.]?\d)")
"""A number whose commas part thousands, if it is a step or has a point: 1,234 and 1,234.5."""
WHOLE, BEFORE, AFTER = (re.compile(one) for one in (rb"[-+]?\d+", rb"\d+,$", rb",\d+"))
NO_NUMBER = re.compile(rb"\b(?:nan|inf(?:inity)?)\b", re.IGNORECASE)


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
        self._patterns = _Pattern(progress or PROGRESS, step=True), _Pattern(loss) if loss else None
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines."""
        self.losses: list[tuple[int | None, float]] = []
        """Matches of the loss: (step where the pattern has one, loss); of many, the last ones."""
        self.beside: list[float] = []
        """Losses of all matches in the last line that has one."""
        self.comma = ""
        """A loss as it was printed with a comma for the point, such as 3,21; empty while there is none."""
        self.latest: tuple[int, float] | None = None
        """The last progress."""

    def feed(self, chunk: bytes) -> None:
        """Take what was printed."""
        self._keep(chunk)
        # A bar of progress ends its states with a carriage return.
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
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
        progress, loss = self._patterns
        text = b"\n".join(lines)
        if b"\x1b" in text:
            text = COLOUR.sub(b"", text)
            lines = text.split(b"\n")
        self.last.extend(line.decode(errors="replace") for line in lines[-LAST_LINES:])
        seen = None
        for place, pattern in enumerate((progress, loss)):
            if pattern is None or not (pattern.compiled.search(text) or (place == 1 and _has_word(text))):
                continue
            for line in lines:
                every, comma = pattern.in_line(line)
                if place == 1:
                    self.comma = comma or self.comma
                if not every:
                    continue
                step, value = every[-1 if place == 1 else 0]
                if place == 1:
                    self.beside = [loss for _, loss in every]
                    self.losses.append((step, value))
                    del self.losses[:-10_000]
                elif step is not None:
                    seen = self.latest = (step, value)
                    self.heard(seen)
        if seen is None:
            self.heard(None)


def _has_word(text: bytes) -> bool:
    """Whether ``NO_NUMBER`` may be in there; many times as fast."""
    lower = text.lower()
    return b"nan" in lower or b"inf" in lower


class _Pattern:
    def __init__(self, pattern: str, step: bool = False) -> None:
        flags = re.IGNORECASE if pattern == PROGRESS else 0
        self.compiled = re.compile(pattern.encode(), flags | re.MULTILINE)
        named = self.compiled.groupindex
        self.step: str | int | None = "step" if "step" in named else 1 if step else None
        self.loss: str | int = "loss" if "loss" in named else 2 if step else loss_group(pattern)
        self.columns = "," in pattern  # a comma that the pattern names parts values

    def in_line(self, line: bytes) -> tuple[list[tuple[int | None, float]], str]:
        """(step, loss) of each match, but for one with words where numbers should be; and a loss with a comma for the
        point, which is no match either: 3,21 is neither 3 nor 21.

        A number goes on with its exponent, and nan and inf are numbers, even where a pattern such as ``[0-9.]+`` has
        no place for them: else 1e-1 were 1, and a run that diverged had the loss before. It goes on with its thousands,
        too: step 1,234 is not step 1.
        """
        matches = list(self.compiled.finditer(line))
        if not matches and NO_NUMBER.search(line):
            matches = list(self.compiled.finditer(NO_NUMBER.sub(lambda word: b"9." + b"9" * (len(word[0]) - 2), line)))
        found, comma = [], ""
        for match in matches:
            try:
                loss, wrong = self._loss(line, match)
                if wrong:
                    comma = wrong
                else:
                    found.append((None if self.step is None else self._step(line, match), loss))
            except (TypeError, ValueError):
                continue
        return found, comma

    def _loss(self, line: bytes, match: re.Match[bytes]) -> tuple[float, str]:
        """A match's loss, and its text where it has a comma for the point."""
        start, end = match.span(self.loss)
        column = start > match.start() and line[start - 1 : start] == b","  # the pattern says so
        grouped = GROUPED.match(line, start)
        if grouped and b"." in grouped[0] and not column:
            return float(grouped[0].replace(b",", b"")), ""
        if WHOLE.fullmatch(line, start, end) and not column:  # 3.21,0.5 is a loss and something else
            before, after = BEFORE.search(line, 0, start), AFTER.match(line, end)
            if after or (before and match.start() == start):
                return 0.0, line[before.start() if before else start : after.end() if after else end].decode()
        if re.fullmatch(rb"[-+]?\d+,\d+", line[start:end]):
            return 0.0, line[start:end].decode()
        exponent = EXPONENT.match(line, end)
        return float(line[start : exponent.end() if exponent else end]), ""

    def _step(self, line: bytes, match: re.Match[bytes]) -> int:
        grouped = None if self.columns else GROUPED.match(line, match.start(self.step or 0))
        return int(grouped[0].replace(b",", b"") if grouped else match[self.step or 0])
