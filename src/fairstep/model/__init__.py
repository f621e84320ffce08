"""The workloads: models whose training is the contest. Optimizers, data and schedules do not belong here.

``build`` makes the model of a spec, ours or anybody's. ``named`` says what a name means; ``PRESETS`` and ``preset`` are
sizes of ours. ``facts`` counts parameters, roles and FLOPs of a model. Specs, presets and facts of ours are plain
numbers and load without torch; the models load torch when they are first asked for, and so does a foreign model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairstep.model.config import ModelConfig, MoEConfig, config_of
from fairstep.model.named import ForeignPreset, named
from fairstep.model.presets import PRESETS, AnyPreset, Preset, preset

if TYPE_CHECKING:
    from fairstep.model.base import LanguageModel
    from fairstep.model.factory import build
    from fairstep.model.llama import Llama

_NEEDS_TORCH = {"LanguageModel": "base", "Llama": "llama", "build": "factory"}

__all__ = [
    "PRESETS",
    "AnyPreset",
    "ForeignPreset",
    "LanguageModel",
    "Llama",
    "MoEConfig",
    "ModelConfig",
    "Preset",
    "build",
    "config_of",
    "named",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
