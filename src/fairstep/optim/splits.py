"""Splits: the parts of a fused matrix's rows (query, key and value; gate and up) that are matrices of their own.

3          three equal parts
"4:1:1"    parts in this proportion: four query heads' rows for one of keys and one of values
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from fairstep.optim.roles import Value

SPLITS = "splits"


class PartRun(NamedTuple):
    """``parts`` equal parts in a row: rows ``start`` to ``stop`` of the matrix."""

    start: int
    stop: int
    parts: int


def unit(splits: Value) -> int:
    """Rows come in multiples of this."""
    return splits if isinstance(splits, int) else sum(map(int, str(splits).split(":")))


def part_runs(splits: Value, rows: int) -> list[PartRun]:
    """Parts of a matrix with so many rows, a multiple of ``unit``; equal ones that follow one another together."""
    if isinstance(splits, int):
        return [PartRun(0, rows, splits)]
    runs: list[PartRun] = []
    scale = rows // unit(splits)
    for share, same in groupby(map(int, str(splits).split(":"))):
        start, count = runs[-1].stop if runs else 0, len(list(same))
        runs.append(PartRun(start, start + share * count * scale, count))
    return runs
