"""Models of pydantic, and classes with a docstring under each field, as tables of the reference."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docstrings import code_cell, escaped, markdown
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typing_extensions import TypeAliasType


def fields(kind: type[BaseModel]) -> str:
    """A table for a model and for every model that its fields hold, with type, default and meaning."""
    parts = []
    for model in _models(kind):
        meanings = descriptions(model)
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        for name, field in model.model_fields.items():
            cells = (f"`{name}`", type_words(field.annotation), _default(field), escaped(meanings.get(name, "")))
            rows.append(f"| {' | '.join(cells if meanings else cells[:3])} |")
        if not meanings:
            rows[:2] = ["| key | type | default |", "|---|---|---|"]
        parts += [f"## {model.__name__}", markdown(inspect.getdoc(model) or ""), "\n".join(rows)]
    return "\n\n".join(parts)


def descriptions(kind: type) -> dict[str, str]:
    """What is said under each field of a class: pydantic's descriptions, else the strings in the source."""
    said_there: dict[str, str] = {}
    for base in kind.__bases__:
        if base.__module__.startswith("fairstep."):
            said_there |= descriptions(base)
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            said_there[field.target.id] = str(text.value.value)  # type: ignore[attr-defined]
    given = {name: field.description for name, field in getattr(kind, "model_fields", {}).items()}
    return said_there | {name: text for name, text in given.items() if text}


def _models(kind: type[BaseModel], seen: list[type[BaseModel]] | None = None) -> list[type[BaseModel]]:
    """The model and its fields' models, each once, in the order of the fields."""
    seen = [] if seen is None else seen
    if kind not in seen:
        seen.append(kind)
        for field in kind.model_fields.values():
            for part in _parts(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    _models(part, seen)
    return seen


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


NAMES: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "none"}


def type_words(annotation: Any) -> str:
    """A type in the words of a file: number, text, list of numbers ..."""
    if isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    kind, parts = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return type_words(parts[0])
    if kind is Literal:
        return " or ".join(str(part) for part in parts)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_words(part) for part in parts))
    if kind in (list, tuple):
        return f"list of ({type_words(parts[0])})"
    if kind in (dict, Mapping):
        return f"table of ({type_words(parts[1])})"
    return NAMES.get(annotation) or getattr(annotation, "__name__", str(annotation))


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "its defaults"
    return code_cell(json.dumps(value) if not isinstance(value, tuple) else json.dumps(list(value)))
