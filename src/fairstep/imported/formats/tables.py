"""Tables: CSV, TSV, JSON lines and parquet, one row a run or one row an evaluation. So are the CSVs that W&B exports.
Text may be compressed (``.csv.gz``).

A chart that W&B exports has one column a run (``name - metric``, beside ``__MIN`` and ``__MAX``). It is turned into one
row an evaluation.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl

from fairstep.imported.source import InputError, Source, frame_of, table
from fairstep.imported.text import encoding_problem, head_of, open_bytes, repeated_column, separator_of, wrong_row
from fairstep.imported.unpacking import inner_suffix, unpacked
from fairstep.runs.files import flat

KIND = "table"
ENDINGS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".parquet": "parquet"}


def claims(path: Path) -> bool:
    return inner_suffix(path) in ENDINGS and path.is_file()


def read(path: Path) -> list[Source]:
    kind = ENDINGS[inner_suffix(path)]
    given = unpacked(path)
    head = head_of(given)
    if not head.strip():
        raise InputError(f"{path} is empty; it needs a header and one row a run or an evaluation")
    if kind == "parquet":
        try:
            return [table(path, kind, _with_rows(path, _plain(pl.read_parquet(given, glob=False))))]
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{path} cannot be read as parquet: {_first(error)}") from None
    if problem := encoding_problem(head):
        raise InputError(f"{path} {problem}")
    if kind == "JSON lines":
        return [table(path, kind, frame_of(_lines(path, given)))]
    separator = "\t" if kind == "TSV" else separator_of(head)
    if twice := repeated_column(head, separator):
        raise InputError(f"{path} has two columns named {twice}; rename one")
    try:
        frame = pl.read_csv(given, separator=separator, infer_schema_length=0, glob=False)
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        said = wrong_row(given, separator) or f"{_first(error)}; save it as UTF-8 with one header row"
        raise InputError(f"{path} cannot be read as {kind}: {said}") from None
    frame = _with_rows(path, frame).rename({name: name.strip() for name in frame.columns})
    if any(name.endswith("__MIN") for name in frame.columns):
        return [table(path, "chart exported by W&B", _long(path, frame), 2, log=True)]
    return [table(path, kind, frame, 2)]


def _with_rows(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    if not frame.height:
        raise InputError(f"{path} has a header and no rows")
    return frame


def _first(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _lines(path: Path, given: Path | bytes) -> list[dict[str, Any]]:
    rows = []
    with io.TextIOWrapper(open_bytes(given), encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise InputError(f"{path}, row {number}: one JSON object a line is needed, not {line.strip()[:40]!r}")
            rows.append(flat(row))
    if not rows:
        raise InputError(f"{path} has no rows")
    return rows


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Structs as columns of their own."""
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Struct):
            frame = frame.with_columns(pl.col(name).struct.unnest().name.prefix(f"{name}.")).drop(name)
    return frame


def _long(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """One row an evaluation of a chart with a column for each run."""
    curves = [name for name in frame.columns if f"{name}__MIN" in frame.columns]
    step, *_ = frame.columns
    if not curves or any(" - " not in name for name in curves):
        raise InputError(f"{path} looks like a chart exported by W&B, and has no column 'NAME - METRIC' beside __MIN")
    if "time" in step.lower():
        raise InputError(f"{path} is a chart over {step!r}, which is no length of training; export it over Step")
    parts = []
    for column in curves:
        name, _, metric = column.rpartition(" - ")
        rows = frame.select(pl.lit(name).alias("name"), pl.col(step).alias("step"), pl.col(column).alias(metric))
        parts.append(rows.filter(pl.col(metric).is_not_null() & (pl.col(metric) != "")))
    return pl.concat(parts, how="diagonal").with_columns(pl.col("name").alias("run"))
