"""The ``[protocol]`` table of a study file as a protocol: its keys are the fields of the protocol's class."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fairstep.optim.spec import did_you_mean
from fairstep.study.file.line_numbers import WrongKey, about
from fairstep.study.protocols import PROTOCOLS, OneCell, Protocol

CELLS = ("tuned", "phase1", "phase2", "phase3", "checked", "retuned")
"""Fields that name cells, perhaps with * in them."""
COUNTS = ("trials", "at_once")
"""Fields of which there is at least one."""


def protocol_of(name: str, settings: Mapping[str, Any], cells: Iterable[str] = ()) -> Protocol:
    """Raises WrongKey."""
    if name not in PROTOCOLS:
        raise WrongKey(
            "name", f"unknown protocol {name!r}{did_you_mean(name, PROTOCOLS)}; there are {', '.join(PROTOCOLS)}"
        )
    kind, cell_names = PROTOCOLS[name], list(cells)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types = typing.get_type_hints(kind)
    defaults, given = kind(), {}
    for key, value in settings.items():
        if key not in fields:
            listed = ", ".join(fields) or "no keys"
            raise WrongKey(
                key, f"unknown key {key!r} of the protocol {name}{did_you_mean(key, fields)}; it has {listed}"
            )
        if typing.get_origin(types[key]) is typing.Literal and value not in (words := typing.get_args(types[key])):
            raise WrongKey(key, f"{key} must be {' or '.join(words)}, not {value!r}")
        given[key] = _value(key, value, getattr(defaults, key), cell_names)
    made: Protocol = kind(**given)
    return made


def named_hyperparameters(protocol: Protocol) -> Iterator[tuple[str, str]]:
    """(key, hyperparameter) of those that a protocol names: ``order`` and ``retuned``, also of what tunes its cells."""
    for key in ("first", "second"):
        if inner := getattr(protocol, key, None):
            yield from ((key, name) for _, name in named_hyperparameters(inner))
    yield from (("order", name) for name in getattr(protocol, "order", ()))
    yield from (("retuned", name) for names in getattr(protocol, "retuned", {}).values() for name in names)


def _value(key: str, value: Any, default: Any, cells: list[str]) -> Any:
    """A value of the default's type."""
    if isinstance(default, OneCell):
        table = {"name": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
        with about(key, f"{key}: "):
            inner = protocol_of(str(table.pop("name", "")), table)
        if not isinstance(inner, OneCell):
            raise WrongKey(key, f"{key} must tune one cell by itself, such as star or descent, not {value!r}")
        return inner
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(names, list) for names in value.values()):
            raise WrongKey(key, f"{key} takes a table of CELL = [hyperparameters], not {value!r}")
        return {cell: tuple(names) for pattern, names in value.items() for cell in _matching(key, pattern, cells)}
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise WrongKey(key, f"{key} takes a list of names, not {value!r}")
        if key not in CELLS:
            return tuple(value)
        return tuple(dict.fromkeys(cell for pattern in value for cell in _matching(key, pattern, cells)))
    if key in CELLS:
        return _matching(key, str(value), cells)[0]
    least = 1 if key in COUNTS else 0
    if isinstance(default, int):
        fits, kind = type(value) is int and value >= least, f"a whole number of at least {least}"
    elif isinstance(default, float):
        fits, kind = type(value) in (int, float) and value >= 0, "a number of at least 0"
    else:
        fits, kind = isinstance(value, str), "a word"
    if not fits:
        raise WrongKey(key, f"{key} must be {kind}, not {value!r}")
    return value


def _matching(key: str, pattern: str, cells: list[str]) -> list[str]:
    matches = [cell for cell in cells if fnmatchcase(cell, pattern)]
    if not matches:
        raise WrongKey(key, f"{key} names the cell {pattern!r}, which the study has not; it has {', '.join(cells)}")
    return matches
