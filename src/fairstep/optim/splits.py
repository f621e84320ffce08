"""Splits: the parts of a fused matrix's rows (query, key and value; gate and up) that are matrices of their own.

3            three equal parts
"4:1:1"      parts in this proportion: four query heads' rows for one of keys and one of values
"8*4:1:1"    interleaved parts: each eighth of the rows has a run of every part, as where a model stores head by head
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from fairstep.optim.roles import Value

SPLITS = "splits"


class PartRun(NamedTuple):
    """``parts`` equal parts in a row: rows ``start`` to ``stop`` of each of so many ``groups`` of the matrix's rows."""

    start: int
    stop: int
    parts: int
    groups: int = 1

    @property
    def rows(self) -> int:
        """Of all parts together."""
        return self.groups * (self.stop - self.start)


def unit(splits: Value) -> int:
    """Rows come in multiples of this."""
    groups, shares = _read(splits)
    return groups * sum(shares)


def part_runs(splits: Value, rows: int) -> list[PartRun]:
    """Parts of a matrix with so many rows, a multiple of ``unit``; equal ones that follow one another together."""
    groups, shares = _read(splits)
    runs: list[PartRun] = []
    scale = rows // unit(splits)
    for share, same in groupby(shares):
        alike = len(list(same))
        for count in [alike] if groups == 1 else [1] * alike:
            start = runs[-1].stop if runs else 0
            runs.append(PartRun(start, start + share * count * scale, count, groups))
    return runs


def _read(splits: Value) -> tuple[int, list[int]]:
    """(groups, the parts' shares of the rows of each)."""
    if isinstance(splits, int):
        return 1, [1] * splits
    groups, _, shares = str(splits).rpartition("*")
    return int(groups or 1), [int(share) for share in shares.split(":")]
