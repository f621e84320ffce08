"""Tokens in files, laid end to end and read through memory maps."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairstep.data.errors import damaged, readable

_MOST_OPEN = 256  # maps at a time: each holds a file descriptor
_BLOCK = 4_000_000  # tokens read at once when a whole stream is


@dataclass(frozen=True)
class Shard:
    """One file of little-endian unsigned integers behind a header of `offset` bytes."""

    path: Path
    tokens: int
    item_bytes: int = 2
    offset: int = 0

    def open(self) -> NDArray[Any]:
        try:
            return np.memmap(self.path, dtype=f"<u{self.item_bytes}", mode="r", offset=self.offset, shape=self.tokens)
        except (OSError, ValueError) as error:
            raise damaged(self.path.parent, f"{self.path.name}: {readable(error)}") from None


class Stream:
    """Tokens of several shards as one array, of which slices and windows can be had, never more in memory."""

    def __init__(self, shards: Sequence[Shard | NDArray[Any]]) -> None:
        self._shards = list(shards)
        lengths = [part.tokens if isinstance(part, Shard) else len(part) for part in self._shards]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._open: dict[int, NDArray[Any]] = {}

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._part(0).dtype

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, place: int | slice) -> Any:
        """A token, or a slice of neighbours as an array."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            return self._slice(start, max(start, stop))[::step] if step > 0 else self._slice(0, len(self))[place]
        place = range(len(self))[place]
        return self._slice(place, place + 1)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """`length` tokens from each start, of shape (starts, length)."""
        first, last = (np.searchsorted(self._ends, starts + extra, side="right") for extra in (0, length - 1))
        found = np.empty((len(starts), length), dtype=np.int64)
        for part in np.unique(first[first == last]):
            rows = np.flatnonzero((first == part) & (last == part))
            places = starts[rows] - self._begin(part)
            found[rows] = self._part(part)[places[:, None] + np.arange(length)]
        for row in np.flatnonzero(first != last):
            found[row] = self[int(starts[row]) : int(starts[row]) + length]
        return found

    def blocks(self) -> Any:
        """All tokens in arrays of bounded size."""
        for start in range(0, len(self), _BLOCK):
            yield self[start : start + _BLOCK]

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        if start >= stop:
            return np.empty(0, dtype=self.dtype if self._shards else np.uint16)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop - 1, side="right"))
        parts = []
        for part in range(first, last + 1):
            begin = self._begin(part)
            parts.append(self._part(part)[max(start - begin, 0) : stop - begin])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _begin(self, part: int) -> int:
        return int(self._ends[part - 1]) if part else 0

    def _part(self, part: int) -> NDArray[Any]:
        if part not in self._open:
            if len(self._open) >= _MOST_OPEN:
                del self._open[next(iter(self._open))]
            shard = self._shards[part]
            self._open[part] = shard.open() if isinstance(shard, Shard) else shard
        return self._open[part]


def scan(shard: Shard, end_of_text: int, report: Callable[[int], None] = lambda size: None) -> dict[str, Any]:
    """Checksum of the file, number of end-of-text tokens, largest token. `report` is told the bytes that were read."""
    checksum = hashlib.sha256()
    with shard.path.open("rb") as file:
        checksum.update(file.read(shard.offset))
    documents = largest = 0
    for block in Stream([shard]).blocks():
        checksum.update(block.tobytes())
        documents += int(np.count_nonzero(block == end_of_text))
        largest = max(largest, int(block.max()))
        report(block.nbytes)
    return {"sha256": checksum.hexdigest(), "documents": documents, "largest": largest}


def file_facts(path: Path) -> dict[str, Any]:
    """What `meta.json` records of a file: its size and checksum."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
