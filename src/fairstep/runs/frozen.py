"""What the parts of a RunSpec share: frozen pydantic models, and errors in one sentence."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Self, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(gt=0, lt=2**63)]
Value = bool | int | float | str


def is_number(value: Any) -> TypeGuard[int | float]:
    """Python calls true and false integers; a setting of that kind is no number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class SpecError(ValueError):
    """A RunSpec cannot be built; the message names the field, the value and what would be right."""


class Frozen(BaseModel):
    """A part of a RunSpec: immutable, no unknown fields, finite numbers only.

    The default of a field never changes: fields at their default are not part of a run's identity, so that a new field
    leaves the names of earlier runs alone. A new behaviour is a new value or a new field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NamedByContent(Frozen):
    """A spec whose name is a hash of what it says."""

    def semantic(self) -> dict[str, object]:
        """The fields that decide the numbers, as plain JSON values; those at their default are left out."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the semantic fields."""
        text = json.dumps(self.semantic(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a spec; raises SpecError with one sentence."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(explain(error)) from None


class Record(BaseModel):
    """What a store keeps of runs: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def explain(error: ValidationError) -> str:
    """The first problem of a pydantic error in one sentence: field, what is wrong, the value."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())  # a class of several
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{field}: {message}" if field else message
    if first["type"] == "json_invalid":
        return f"this is no JSON ({first['ctx']['error']})"
    return f"{field}: {message[0].lower()}{message[1:]}, not {first['input']!r}"
