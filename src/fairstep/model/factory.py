"""One way from a ModelSpec's fields to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairstep.model.base import LanguageModel
from fairstep.model.classic import BERT, GPT2
from fairstep.model.config import config_of
from fairstep.model.llama import Llama

MODELS: dict[str, type[LanguageModel]] = {"llama": Llama, "gpt2": GPT2, "bert": BERT}


def build(fields: Mapping[str, Any]) -> LanguageModel:
    """The model of ``spec.model.model_dump()``, its first weights drawn from torch's global generator.

    Raises ValueError for an unknown architecture, TypeError for an unknown field.
    """
    config = config_of(fields)
    if config.architecture not in MODELS:
        raise ValueError(f"architecture must be one of {', '.join(MODELS)}, not {config.architecture!r}")
    return MODELS[config.architecture](config)
