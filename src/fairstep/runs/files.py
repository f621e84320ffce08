"""Reading and writing small files: whole files or nothing, never half a file."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_atomic(path: Path, text: str, durable: bool = True) -> None:
    """Write text so that a reader, or a kill at any moment, sees the old file or the new one.

    ``durable`` waits until the disk has it (milliseconds); a file that can be made again after a power cut need not.
    Raises OSError as the system gives it (full disk, read-only folder); the old file is then still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any | None:
    """The file's JSON value, or None when it is missing or was cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a last line that a kill cut off is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        rows.append(row)
    return rows
