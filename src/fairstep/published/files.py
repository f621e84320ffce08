"""The data files of this room. Each is read once."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


def read_text(name: str) -> str:
    """Text of a file in ``data/``."""
    return (resources.files("fairstep.published") / "data" / name).read_text(encoding="utf-8")


@functools.cache
def read_json(name: str) -> Any:
    """Value of a JSON file in ``data/``; shared, so not to be changed."""
    return json.loads(read_text(name))


def read_csv(name: str, schema: dict[str, Any]) -> pl.DataFrame:
    """Table of a CSV file in ``data/`` with the columns of ``schema``; an empty field is null."""
    import polars as pl

    return pl.read_csv(read_text(name).encode(), schema=schema)


def frame_of(records: Iterable[dict[str, Any]], nested: Collection[str]) -> pl.DataFrame:
    """Plain records as a table; the ``nested`` values, which may be null, are JSON in it."""
    import polars as pl

    rows = [
        {key: compact(value) if key in nested and value is not None else value for key, value in record.items()}
        for record in records
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def compact(value: Any) -> str:
    """JSON with sorted keys: how a set of hyperparameters stands in one column."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
