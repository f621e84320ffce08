"""A source: one file, folder or data frame as a table, which all formats share.

A row is a run or an evaluation. Columns keep the names that the source gives them, and ``columns`` finds what they
mean. Three columns are added: where a row is from (``#file``, ``#row``, from 1) and, of a log, the ``run`` it is of.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from fairstep.analysis import Trials

FILE, ROW = "#file", "#row"


class InputError(ValueError):
    """The runs cannot be read; the message is one sentence that names file, row and column, and what would be right."""


@dataclass(frozen=True)
class Source:
    """``kind``: what the format is called. ``log``: whether every row is an evaluation and the file names the run;
    else the columns tell. ``notes``: what the reader left out, in sentences. ``trials``: of our own store, in place of
    a table. ``path``: None for a data frame."""

    path: Path | None
    kind: str
    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    log: bool = False
    notes: tuple[str, ...] = ()
    trials: Trials | None = None


def table(path: Path | None, kind: str, frame: pl.DataFrame, first_row: int = 1, **rest: Any) -> Source:
    """A source whose rows know where they are from. ``first_row``: the number of the first row in its file."""
    name = "the data frame" if path is None else str(path)
    plain = {column: column.lstrip("# ") for column in frame.columns if column.startswith("#")}  # "# step,val_loss"
    for column, bare in plain.items():
        if bare in frame.columns or list(plain.values()).count(bare) > 1:
            raise InputError(f"{name} has two columns named {bare}, one of them {column}; rename one")
    frame = frame.rename(plain)
    numbered = frame.with_columns(pl.lit(name).alias(FILE), pl.int_range(first_row, first_row + pl.len()).alias(ROW))
    return Source(path, kind, numbered, **rest)


def frame_of(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """A frame of rows with any keys. A column is of numbers if all of its values are; else of text."""
    rows = list(rows)
    names = dict.fromkeys(key for row in rows for key in row)
    return pl.DataFrame([_series(name, [row.get(name) for row in rows]) for name in names])


def _series(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pl.Series(name, values, pl.Int64)
    if kinds and kinds <= {int, float}:
        with contextlib.suppress(OverflowError):  # of a whole number beyond float64, which stays text
            return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)
    return pl.Series(name, [None if value is None else str(value) for value in values], pl.String)


def need(module: str, extra: str, path: Path) -> InputError:
    """What to say when a package of an extra is missing."""
    return InputError(f"{path} needs the package {module}: pip install 'fairstep[{extra}]'")


def near_or_all(given: str, names: Sequence[str], what: str) -> str:
    """What to write in place of a name that there is not."""
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"the {what} are {listed(names)}"


def listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
