"""A study's tables as the text of a study file.

Keys at their defaults are left out. Reading the text gives the same tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fairstep.study.file.schema import ContestTable


def toml_of(study: ContestTable) -> str:
    """The file whose reading gives these tables again."""
    return "\n".join(_lines((), study.model_dump(mode="json", exclude_defaults=True))).lstrip("\n") + "\n"


def _lines(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a table, and behind them the tables in it."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping) and value}
    lists = {key: value for key, value in table.items() if isinstance(value, list) and value}
    arrays = {key: value for key, value in lists.items() if all(isinstance(item, Mapping) for item in value)}
    for key, value in table.items():
        if key not in inner and key not in arrays:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        if not all(isinstance(item, Mapping) and item for item in value.values()):
            yield from ("", f"[{_name((*path, key))}]")
        yield from _lines((*path, key), value)
    for key, tables in arrays.items():
        for one in tables:
            yield from ("", f"[[{_name((*path, key))}]]")
            yield from _lines((*path, key), one)


def _name(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)  # which writes words and whole numbers as TOML does
    return text.replace("\x7f", "\\u007f")
