"""``fairstep doctor --model``: what a model's name means."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairstep.model import PRESETS, build, preset

VOCABULARY = 50_304
"""Of a preset, which has as many tokens as its text; GPT-2's, padded."""


def maker(model: str) -> Callable[[], Any]:
    """A function that makes the model: a preset, a folder or file with a config of Transformers, or
    ``package.module:function``. Raises ValueError with one sentence."""
    path, _, name = model.partition(":")
    if model in PRESETS:
        return lambda: build(preset(model).config(VOCABULARY))
    if Path(model).exists():
        return _of_transformers(Path(model))
    if not name:
        raise ValueError(
            f"--model takes a preset ({', '.join(list(PRESETS)[:4])} ...), a folder with a config.json of "
            f"Transformers, or package.module:function, not {model!r}"
        )
    try:
        made: Callable[[], Any] = getattr(importlib.import_module(path), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no model {model}: {error}") from None
    return made


def _of_transformers(place: Path) -> Callable[[], Any]:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError:
        raise ValueError("a config of Transformers needs the package: pip install 'fairstep[eval]'") from None
    try:
        config = transformers.AutoConfig.from_pretrained(str(place))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{place} is no config of Transformers: {error}") from None
    return lambda: transformers.AutoModelForCausalLM.from_config(config)
