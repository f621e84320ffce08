"""Trackio: its local database of a project, an SQLite file with the tables ``metrics`` and ``configs``.

The database is read with Python's own sqlite3, without a lock, and without the trackio package.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from fairstep.imported.source import InputError, Source, frame_of, table
from fairstep.runs.files import flat

KIND = "trackio project"
MAGIC = b"SQLite format 3\x00"


def claims(path: Path) -> bool:
    if path.suffix.lower() not in (".db", ".sqlite") or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> list[Source]:
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            configs = _configs(connection)
            found = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY run_name, step").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as trackio's database: {error}") from None
    rows: list[dict[str, Any]] = []
    for name, step, metrics in found:
        row = _values(metrics)
        config = {key if key not in row else f"config.{key}": value for key, value in configs.get(name, {}).items()}
        rows.append(config | {"name": name, "run": name, "step": step} | row)
    if not rows:
        raise InputError(f"{path} holds no metrics")
    return [table(path, KIND, frame_of(rows), log=True)]


def _configs(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Run -> its config; none in databases of before configs."""
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "configs" not in known:
        return {}
    found = connection.execute("SELECT run_name, config FROM configs").fetchall()
    return {
        name: {key: value for key, value in flat(_values(config)).items() if not key.startswith("_")}
        for name, config in found
    }


def _values(text: Any) -> dict[str, Any]:
    """A JSON object; numbers that JSON has no place for are texts there."""
    value = json.loads(text)
    return value if isinstance(value, dict) else {}
