"""W&B: ``run-*.wandb`` of a run that was logged offline, read with the wandb package (extra track), without a network.

The history is the rows. The config is columns with one value, the run's name and group too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fairstep.imported.source import InputError, Source, flat, frame_of, need, table

KIND = "W&B offline run"


def claims(path: Path) -> bool:
    return path.suffix == ".wandb" and path.is_file()


def read(path: Path) -> list[Source]:
    try:
        from wandb.proto import wandb_internal_pb2
        from wandb.sdk.internal.datastore import DataStore
    except ImportError:
        raise need("wandb", "track", path) from None
    store = DataStore()
    rows: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    about: dict[str, Any] = {"run": str(path)}
    notes: tuple[str, ...] = ()
    try:
        store.open_for_scan(str(path))
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                rows.append(_items(record.history.item))
            if record.HasField("run"):
                config |= _items(record.run.config.update)
                about |= {"name": record.run.display_name, "group": record.run.run_group}
            if record.HasField("config"):
                config |= _items(record.config.update)
    except (AssertionError, EOFError):  # a run that was killed while it wrote
        notes = (f"{path} ends in the middle of a record; what is before it was read.",)
    except Exception as error:
        raise InputError(f"{path} cannot be read as a W&B run: {error}") from None
    if not rows:
        return [Source(path, KIND, notes=(f"{path} has no history and is left out.", *notes))]
    logged = {key for row in rows for key in row}
    config = {key: value for key, value in flat(config).items() if not key.startswith("_wandb")}
    given = {key if key not in logged else f"config.{key}": value for key, value in config.items()}
    given |= {key: value for key, value in about.items() if value and key not in given}
    return [table(path, KIND, frame_of([given | row for row in rows]), log=True, notes=notes)]


def _items(items: Any) -> dict[str, Any]:
    """Keys with dots or nested keys, and JSON values."""
    values: dict[str, Any] = {}
    for item in items:
        value = json.loads(item.value_json)
        name = ".".join(item.nested_key) or item.key
        values |= flat({name: value}) if isinstance(value, dict) else {name: value}
    return values
