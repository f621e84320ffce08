"""One way from a ModelSpec to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairstep.model.base import LanguageModel
from fairstep.model.classic import BERT, GPT2
from fairstep.model.config import ModelConfig, config_of
from fairstep.model.llama import Llama
from fairstep.model.track3 import Track3

MODELS: dict[str, type[LanguageModel]] = {"llama": Llama, "gpt2": GPT2, "bert": BERT, "track3": Track3}


def build(config: ModelConfig | Mapping[str, Any]) -> LanguageModel:
    """The model of a config, or of a config's fields; its first weights are drawn from torch's global generator.

    Raises SpecError with one sentence for fields that no ModelSpec has, or values that it refuses.
    """
    if not isinstance(config, ModelConfig):
        config = config_of(config)
    return MODELS[config.architecture](config)
