"""What the parts of a RunSpec share: frozen pydantic models, and errors in one sentence."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(gt=0, lt=2**63)]
Value = bool | int | float | str


class SpecError(ValueError):
    """A RunSpec cannot be built; the message names the field, the value and what would be right."""


class Frozen(BaseModel):
    """A part of a RunSpec: immutable, no unknown fields, finite numbers only.

    The default of a field never changes: fields at their default are not part of a run's identity, so that a new field
    leaves the names of earlier runs alone. A new behaviour is a new value or a new field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Record(BaseModel):
    """What a store keeps of runs: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def explain(error: ValidationError) -> str:
    """The first problem of a pydantic error in one sentence: field, what is wrong, the value."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{field}: {message}" if field else message
    if first["type"] == "json_invalid":
        return f"this is no JSON ({first['ctx']['error']})"
    return f"{field}: {message[0].lower()}{message[1:]}, not {first['input']!r}"
