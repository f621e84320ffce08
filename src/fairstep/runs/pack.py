"""The packed form of a store: its finished contests in four files, small enough for a repository.

STORE/pack.json         format, and the SHA-256 of the other files
STORE/runs.parquet      a row per run: spec, summary and environment as JSON
STORE/curves.parquet    a row per kept point of metrics.jsonl, at most ``POINTS`` of each kind and run
STORE/ledgers.parquet   a row per ledger, as its file

Packing adds nothing and takes no time of day along, so that packing twice gives equal bytes. A run's digest is made
anew, since its curve has fewer points. What is read gives ``Run`` the files that a directory would have.
"""

from __future__ import annotations

import hashlib
import io
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fairstep.runs.files import json_object, read_bytes, write_atomic
from fairstep.runs.run import Run

FORMAT = 3
"""2 is the same without the last two columns of curves, 1 without ``gradient_norm`` too."""
POINTS = 50
"""Points of one curve that are kept, evenly over it, the first and the last among them."""
MANIFEST = "pack.json"
PASSING = ("starts",)
"""Keys of env.json that say when, not what."""

TABLES: dict[str, dict[str, Any]] = {
    "runs.parquet": {
        "run": pl.String,
        "spec": pl.String,
        "summary": pl.String,
        "environment": pl.String,
        "signals_seconds": pl.Float64,
    },
    "curves.parquet": {
        "run": pl.String,
        "kind": pl.String,
        "step": pl.Int64,
        "tokens": pl.Int64,
        "loss": pl.Float64,
        "windows": pl.Int64,
        "gradient_norm": pl.Float64,
        "effective_lr": pl.Float64,
        "matrix_rms": pl.Float64,
    },
    "ledgers.parquet": {"ledger": pl.String, "content": pl.String},
}
"""File -> column -> type. ``signals_seconds``: mean over the rows of timings.jsonl, null without any. ``matrix_rms``:
the root mean square of the matrices' weights."""
LATER = ("gradient_norm", "effective_lr", "matrix_rms")
"""Columns that files of earlier formats lack; null there."""
NEEDED = ("spec", "summary", "content")
"""Columns that have a value in every row."""
CURVE = tuple(TABLES["curves.parquet"])[1:]


@dataclass(frozen=True)
class Pack:
    """``runs``: identity -> files by name. ``ledgers``: name -> content, oldest first."""

    runs: Mapping[str, Mapping[str, bytes]]
    ledgers: Mapping[str, bytes]


def write_pack(folder: Path, runs: Iterable[Run], ledgers: Mapping[str, bytes]) -> int:
    """Write finished runs and their ledgers; the bytes written. Raises OSError, and ValueError for a pack of a newer
    version in the folder."""
    if (folder / MANIFEST).exists():
        _manifest(folder)
    packed = [_packed(run) for run in sorted(runs, key=lambda run: run.id)]
    content = {
        "runs.parquet": [row for row, _ in packed],
        "curves.parquet": [point for row, points in packed for point in points],
        "ledgers.parquet": [{"ledger": name, "content": raw.decode()} for name, raw in ledgers.items()],
    }
    files = {name: _parquet(content[name], schema) for name, schema in TABLES.items()}
    sums = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    manifest = json.dumps({"format": FORMAT, "sha256": sums}, indent=1) + "\n"
    write_atomic(folder / MANIFEST, manifest)
    return len(manifest) + sum(map(len, files.values()))


def read_pack(folder: Path) -> Pack:
    """Raises ValueError that names the file and what is wrong with it, OSError for one that cannot be read."""
    sums = _manifest(folder)
    tables = {name: _table(folder / name, sums.get(name), schema) for name, schema in TABLES.items()}
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in tables["curves.parquet"].iter_rows(named=True):
        curves.setdefault(row["run"], []).append(_point(row))
    runs: dict[str, dict[str, bytes]] = {}
    for row in tables["runs.parquet"].iter_rows(named=True):
        runs[row["run"]] = _files(row, curves.pop(row["run"], []))
    if curves:
        raise ValueError(f"{folder / 'curves.parquet'}: the run {min(curves)} is not in runs.parquet")
    rows = tables["ledgers.parquet"].iter_rows(named=True)
    return Pack(runs, {row["ledger"]: row["content"].encode() for row in rows})


def thinned(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The points of metrics.jsonl that are kept. Evaluations over different windows are different curves."""
    places: dict[tuple[Any, Any], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row.get("kind"), row.get("windows")), []).append(place)
    kept: set[int] = set()
    for curve in places.values():
        last = len(curve) - 1
        kept.update(curve if last < POINTS else (curve[round(last * n / (POINTS - 1))] for n in range(POINTS)))
    for place in sorted(kept):
        yield {name: rows[place].get(name) for name in CURVE} | {"matrix_rms": matrix_rms(rows[place])}


def matrix_rms(row: Mapping[str, Any]) -> Any:
    """Of a row of metrics.jsonl, the root mean square of the matrices' weights; None where it has none."""
    sizes = row.get("weight_rms")
    return sizes.get("matrix") if isinstance(sizes, Mapping) else None


def _packed(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's row, and the rows of its curve."""
    points = list(thinned(run.metrics()))
    signals = [timing.get("signals_seconds", 0.0) for timing in run.timings()]
    environment = {name: value for name, value in run.environment.items() if name not in PASSING}
    row: dict[str, Any] = {
        "run": run.id,
        "spec": run.read("spec.json").decode(),
        "environment": json.dumps(environment) if environment else None,
        "signals_seconds": statistics.fmean(signals) if signals else None,
    }
    # As it is read again: a table keeps a number as one type.
    kept = pl.DataFrame(points, schema={name: TABLES["curves.parquet"][name] for name in CURVE}, strict=False)
    points = kept.to_dicts()
    thin = Run(run.directory, _files(row | {"summary": ""}, [_point(point) for point in points]))
    summary = run.summary
    assert summary is not None
    sealed = thin.sealed(summary) if summary.digest else summary
    row["summary"] = sealed.model_dump_json()
    return row, [{"run": run.id, **point} for point in points]


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics.jsonl; its loss is null where it was not finite."""
    point = {name: row[name] for name in CURVE if row[name] is not None or name == "loss"}
    rms = point.pop("matrix_rms", None)
    return point if rms is None else point | {"weight_rms": {"matrix": rms}}


def _files(row: Mapping[str, Any], curve: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The files of a run's directory that a row and its curve stand for."""
    texts = {"spec.json": row["spec"], "summary.json": row["summary"], "env.json": row["environment"]}
    if curve:
        texts["metrics.jsonl"] = "".join(json.dumps(point) + "\n" for point in curve)
    if row["signals_seconds"] is not None:
        texts["timings.jsonl"] = json.dumps({"signals_seconds": row["signals_seconds"]}) + "\n"
    return {name: text.encode() for name, text in texts.items() if text is not None}


def _parquet(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> bytes:
    with io.BytesIO() as file:
        pl.DataFrame(rows, schema=schema).write_parquet(file, compression="zstd", compression_level=19)
        return file.getvalue()


def _manifest(folder: Path) -> dict[str, Any]:
    """The sums in pack.json. Raises ValueError."""
    path = folder / MANIFEST
    facts = json_object(read_bytes(path)) or {}
    version, sums = facts.get("format"), facts.get("sha256")
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(
            f"{path}: format {version} is of a newer fairstep (this one reads up to {FORMAT}); upgrade fairstep"
        )
    if version not in range(1, FORMAT + 1) or not isinstance(sums, dict):
        raise ValueError(f"{path}: format and sha256 cannot be read; get the file again, or pack the store again")
    return sums


def _table(path: Path, digest: Any, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Raises ValueError, OSError."""
    raw = read_bytes(path)
    if (found := hashlib.sha256(raw).hexdigest()) != digest:
        raise ValueError(
            f"{path}: its SHA-256 is {found[:16]}..., and {MANIFEST} says {str(digest)[:16]}..., so it was changed "
            "after it was packed; get it again, or pack the store again"
        )
    try:
        table = pl.read_parquet(io.BytesIO(raw))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: it cannot be read as parquet ({error})") from None
    absent = [name for name in LATER if name in schema and name not in table.columns]
    table = table.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
    for name, kind in schema.items():
        if table.schema.get(name) != kind:
            raise ValueError(f"{path}: the column {name} must be {kind}, not {table.schema.get(name)}")
    key = next(iter(schema))
    names = table[key]
    if names.is_null().any() or not names.str.contains(r"^[\w+=-][\w.+=-]*$").all():
        raise ValueError(f"{path}: the column {key} must hold names of letters, digits and .+=-")
    if path.name != "curves.parquet" and names.is_duplicated().any():
        raise ValueError(f"{path}: the column {key} must name each {key} once")
    if empty := [name for name in NEEDED if name in schema and table[name].is_null().any()]:
        raise ValueError(f"{path}: the column {empty[0]} must have a value for each {key}")
    return table
