"""W&B: ``run-*.wandb`` of a run that was logged offline, read without a network.

The history is the rows. The config is columns with one value, the run's name and group too. The file is a log of
records in LevelDB's format (blocks of 32 KiB; a record is cut into pieces where a block ends), each a message whose
definition the wandb package has (extra track).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairstep.imported.source import InputError, Source, frame_of, need, table
from fairstep.runs.files import flat

KIND = "W&B offline run"
MAGIC = b":W&B\xe1\xbe\x00"
BLOCK, HEADER = 32_768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
"""Kinds of a piece."""


def claims(path: Path) -> bool:
    return path.suffix == ".wandb" and path.is_file()


def read(path: Path) -> list[Source]:
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError:
        raise need("wandb", "track", path) from None
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    about: dict[str, Any] = {"run": str(path)}
    notes: tuple[str, ...] = ()
    try:
        for data in _records(path):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                rows.append(_items(record.history.item))
            if record.HasField("run"):
                config |= _items(record.run.config.update)
                about |= {"name": record.run.display_name, "group": record.run.run_group}
            if record.HasField("config"):
                config |= _items(record.config.update)
    except EOFError:  # a run that was killed while it wrote
        notes = (f"{path} ends in the middle of a record; what is before it was read.",)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged record makes protobuf raise
        raise InputError(f"{path} cannot be read as a W&B run: {error}") from None
    if not rows:
        return [Source(path, KIND, notes=(f"{path} has no history and is left out.", *notes))]
    logged = {key for row in rows for key in row}
    config = {key: value for key, value in flat(config).items() if not key.startswith("_wandb")}
    given = {key if key not in logged else f"config.{key}": value for key, value in config.items()}
    given |= {key: value for key, value in about.items() if value and key not in given}
    return [table(path, KIND, frame_of([given | row for row in rows]), log=True, notes=notes)]


def _records(path: Path) -> Iterator[bytes]:
    """Raises EOFError for a file that ends within a record, InputError for one that is damaged."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise InputError(f"{path} is no W&B run of a version that is known; it does not begin as one")
    place, record = len(MAGIC), b""
    while place < len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # zeros to the end of a block
            place += left
            continue
        if len(data) < place + HEADER:
            raise EOFError
        checksum, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        piece = data[place + HEADER : place + HEADER + length]
        if len(piece) < length:
            raise EOFError
        if zlib.crc32(piece, zlib.crc32(bytes([kind]))) != checksum:
            raise InputError(f"{path} is damaged at byte {place}: its checksum does not fit")
        record = piece if kind in (WHOLE, FIRST) else record + piece
        if kind in (WHOLE, LAST):
            yield record
        place += HEADER + length
    if record and kind in (FIRST, MIDDLE):
        raise EOFError


def _items(items: Any) -> dict[str, Any]:
    """Keys with dots or nested keys, and JSON values."""
    values: dict[str, Any] = {}
    for item in items:
        value = json.loads(item.value_json)
        name = ".".join(item.nested_key) or item.key
        values |= flat({name: value}) if isinstance(value, dict) else {name: value}
    return values
