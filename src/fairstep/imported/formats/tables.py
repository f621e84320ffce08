"""Tables: CSV, TSV, JSON lines and parquet, one row a run or one row an evaluation. So are the CSVs that W&B exports.

A chart that W&B exports has one column a run (``name - metric``, beside ``__MIN`` and ``__MAX``). It is turned into one
row an evaluation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from fairstep.imported.source import InputError, Source, flat, frame_of, table

KIND = "table"
DUPLICATE = re.compile(r"_duplicated_\d+$")
ENDINGS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".parquet": "parquet"}


def claims(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in ENDINGS


def read(path: Path) -> list[Source]:
    kind = ENDINGS[path.suffix.lower()]
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs a header and one row a run or an evaluation")
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path} is UTF-16; save it as UTF-8")
    if kind == "JSON lines":
        return [table(path, kind, frame_of(_lines(path)))]
    try:
        if kind == "parquet":
            return [table(path, kind, _plain(pl.read_parquet(path)))]
        frame = pl.read_csv(path, separator=_separator(path), infer_schema_length=0)
    except (pl.exceptions.PolarsError, UnicodeError) as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"{path} cannot be read as {kind}: {said}; save it as UTF-8 with one header row") from None
    if twice := next((name for name in frame.columns if DUPLICATE.search(name)), None):
        raise InputError(f"{path} has two columns named {DUPLICATE.sub('', twice)}; rename one")
    if not frame.height:
        raise InputError(f"{path} has a header and no rows")
    frame = frame.rename({name: name.strip() for name in frame.columns})
    if any(name.endswith("__MIN") for name in frame.columns):
        return [table(path, "chart exported by W&B", _long(path, frame), 2, log=True)]
    return [table(path, kind, frame, 2)]


def _separator(path: Path) -> str:
    """Of a header row: a tab, else a semicolon where there are more of them than commas, else a comma."""
    with path.open("rb") as file:
        head = file.readline(1 << 20)
    if path.suffix.lower() == ".tsv":
        return "\t"
    return max((",", ";", "\t"), key=lambda letter: head.count(letter.encode()))


def _lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
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
    parts = []
    for column in curves:
        name, _, metric = column.rpartition(" - ")
        rows = frame.select(pl.lit(name).alias("name"), pl.col(step).alias("step"), pl.col(column).alias(metric))
        parts.append(rows.filter(pl.col(metric).is_not_null() & (pl.col(metric) != "")))
    return pl.concat(parts, how="diagonal").with_columns(pl.col("name").alias("run"))
