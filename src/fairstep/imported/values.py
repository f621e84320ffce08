"""Cells as labels and as values of hyperparameters, so that one thing that was written in two ways is one thing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from fairstep.runs.frozen import is_number


def shared_values(frame: pl.DataFrame, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every row's values of the columns (column -> name) where it has one; equal rows share one dict."""
    if not names:
        return [{}] * frame.height
    nested = any(frame.schema[column].is_nested() for column in names)  # lists have no hash
    made: dict[Any, dict[str, Any]] = {}
    rows = []
    for values in frame.select(names.keys()).iter_rows():
        key = repr(values) if nested else values
        if key not in made:
            known = zip(names.values(), values, strict=True)
            made[key] = {name: _value(value) for name, value in known if value not in (None, "")}
        rows.append(made[key])
    return rows


def labels_of(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A column as labels: text without spaces around it, whole numbers without a point."""
    kind = frame.schema[column]
    if kind.is_float():
        value = pl.col(column).fill_nan(None)
        whole = value.is_not_null() & (value == value.floor()) & (value.abs() < 2**53)
        return pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    text = pl.col(column).cast(pl.String).str.strip_chars().str.replace_all(r"\s+", " ").replace("", None)
    return text.str.replace(r"^(-?\d+)\.0$", "$1")


def _value(value: Any) -> Any:
    """A hyperparameter as a number where it is one, so that 3e-3 and 0.003 are one value."""
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text)
        except ValueError:
            return text
        return _plain_number(number) if math.isfinite(number) else text
    return _plain_number(value) if is_number(value) else value


def _plain_number(value: float) -> float:
    """Without the noise of arithmetic, so that 0.001, 0.0010000000000000002 and what float32 makes of it are one value;
    whole numbers as such, so that 8 and 8.0 are one and shown as 8."""
    if not math.isfinite(value) or isinstance(value, int):
        return value
    if value == int(value) and abs(value) < 2**53:
        return int(value)
    single = 1e-30 < abs(value) < 1e30 and float(np.float32(value)) == value
    value = float(str(np.float32(value)) if single else f"{value:.12g}")
    return int(value) if value == int(value) and abs(value) < 2**53 else value
