"""The workloads: models whose training is the contest. Optimizers, data and schedules do not belong here.

``build`` makes the model of a ModelSpec. ``PRESETS`` and ``preset`` name sizes. ``shapes`` counts parameters, roles and
FLOPs of a config. Configs, presets and shapes are plain numbers and load without torch; the models load torch when they
are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairstep.model.config import ModelConfig, MoEConfig, config_of
from fairstep.model.presets import PRESETS, Preset, preset

if TYPE_CHECKING:
    from fairstep.model.base import LanguageModel
    from fairstep.model.factory import build
    from fairstep.model.llama import Llama

_NEEDS_TORCH = {"LanguageModel": "base", "Llama": "llama", "build": "factory"}

__all__ = ["PRESETS", "LanguageModel", "Llama", "MoEConfig", "ModelConfig", "Preset", "build", "config_of", "preset"]


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
