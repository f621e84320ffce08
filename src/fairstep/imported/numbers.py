"""Text as numbers, with one sentence for what is none."""

from __future__ import annotations

import re

import polars as pl

from fairstep.imported.source import FILE, ROW, InputError

COMMA = re.compile(r"[+-]?\d+,\d+")
SHORT = re.compile(r"[+-]?\d+(\.\d*)?\s*([kKMBGT])")
MISSING = ("none", "null", "na", "n/a", "<na>", "-", "–")
"""What people write into a cell that is empty."""
GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


def numbers(frame: pl.DataFrame, column: str) -> pl.Series:
    """A column as float64; empty cells are null, nan and infinities stay. Raises InputError with file, row, column."""
    series = frame[column]
    if series.dtype.is_numeric() or series.dtype == pl.Null:
        return series.cast(pl.Float64)
    if series.dtype != pl.String:
        wrong = series.dtype == pl.Boolean
        first = frame.filter(pl.col(column).is_not_null()).row(0, named=True)
        raise InputError(
            f"{place(first, column)} must be a number, not {first[column]!r}" + (" (true or false)" if wrong else "")
        )
    text = series.str.strip_chars().replace("", None)
    text = text.set(text.str.to_lowercase().is_in(MISSING).fill_null(False), None)
    made = text.cast(pl.Float64, strict=False)
    wrong_ones = text.is_not_null() & made.is_null()
    if wrong_ones.any():
        # What Python takes for a number and polars does not, such as Infinity and 1_000.
        made = pl.Series(column, [_number(value) for value in text], pl.Float64)
        wrong_ones = text.is_not_null() & made.is_null()
    if wrong_ones.any():
        first = frame.filter(wrong_ones).row(0, named=True)
        value = str(first[column]).strip()
        more = int(wrong_ones.sum()) - 1
        also = f" (and {more} more row{'s' if more > 1 else ''})" if more else ""
        raise InputError(f"{place(first, column)} must be a number, not {value[:40]!r}{also}{_hint(value)}")
    return made


def place(row: dict[str, object], column: str = "") -> str:
    """``results.csv, row 3, column val_loss``."""
    return f"{row[FILE]}, row {row[ROW]}" + (f", column {column}" if column else "")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _hint(value: str) -> str:
    if GROUPED.fullmatch(value) and not value.startswith("0"):
        return f"; write {value.replace(',', '')} without the commas (or {value.replace(',', '.', 1)})"
    if short := SHORT.fullmatch(value):
        digits = {"k": 3, "K": 3, "M": 6, "B": 9, "G": 9, "T": 12}[short[2]]
        return f"; write {value[: short.start(2)].strip()}e{digits}"
    if COMMA.fullmatch(value):
        return f"; it has a decimal comma, write {value.replace(',', '.')}"
    return ""
