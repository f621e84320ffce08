"""ModelConfig: what a model is built from. It is the ModelSpec of a run: plain numbers, validated, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fairstep.runs.frozen import SpecError, explain
from fairstep.runs.model_spec import ModelSpec as ModelConfig
from fairstep.runs.model_spec import MoESpec as MoEConfig

__all__ = ["EXPLICIT_ATTENTION_CONTEXT", "LOGITS_AT_ONCE", "MoEConfig", "ModelConfig", "config_of"]

LOGITS_AT_ONCE = 2**26
"""Most logits that the loss holds at a time (256 MiB of float32)."""

EXPLICIT_ATTENTION_CONTEXT = 256
"""Longest context for which a CPU uses written-out attention: its score matrix grows with the square."""


def config_of(fields: Mapping[str, Any]) -> ModelConfig:
    """The config of a ModelSpec's fields. Raises SpecError with one sentence for what it refuses."""
    try:
        return ModelConfig(**fields)
    except ValidationError as error:
        raise SpecError(explain(error)) from None
