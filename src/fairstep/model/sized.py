"""Dense Llamas of a size that no preset has: the preset nearest in size, made wider, deeper, narrower or shallower."""

from __future__ import annotations

import math
import re

from fairstep.model.config import ModelConfig
from fairstep.model.presets import PRESETS, Preset

SMALL = 10_000_000
"""Matrix parameters below which a model is one of the ladder for CPUs."""

SIZES = re.compile(r"(\d+)x(\d+)")
"""Name of a model by its layers and width, such as 24x1024."""


def nearest(parameters: float) -> Preset:
    """The dense Llama nearest in matrix parameters; the ladder's have the demo's small vocabulary."""
    dense = [p for p in PRESETS.values() if p.model.moe is None and p.model.architecture == "llama"]
    dense = [p for p in dense if bool(p.source) == (parameters >= SMALL)]
    return min(dense, key=lambda p: abs(math.log(p.parameters_matrix / parameters)))


def sized(parameters: float, context: int = 0) -> Preset:
    """A model of about so many matrix parameters: the nearest preset with another width. ``context``: tokens of a
    sequence at most; 0: the preset's."""
    near = nearest(parameters)
    factor = math.sqrt(parameters / near.parameters_matrix)
    head = 64 if near.model.width * factor >= 64 else 32
    width = max(round(near.model.width * factor / head), 1) * head
    return _resized(near, near.name, near.model.layers, width, head, min(near.context, context or near.context))


def by_layers(name: str) -> Preset:
    """The model of LAYERSxWIDTH, with the heads, the MLP's ratio, vocabulary and context of the preset nearest in size.

    Raises ValueError for a width that heads of 32 or 64 do not divide.
    """
    found = SIZES.fullmatch(name)
    assert found is not None
    layers, width = int(found[1]), int(found[2])
    if layers < 1 or width < 32 or width % 32:
        raise ValueError(f"a model of LAYERSxWIDTH has a width that is a multiple of 32 (of its heads), not {name}")
    near = nearest(12.0 * layers * width**2)
    return _resized(near, name, layers, width, 32 if width % 64 else 64, near.context)


def _resized(near: Preset, name: str, layers: int, width: int, head: int, context: int) -> Preset:
    mlp = max(round(near.model.mlp_width * width / near.model.width / 32), 1) * 32
    sizes = {"layers": layers, "width": width, "mlp_width": mlp, "heads": width // head, "context": context}
    model = ModelConfig(**{**near.fields(), **sizes, "preset": name})
    return Preset(name, model, near.batch_sequences, near.vocabulary_multiple, source=f"sized from {near.name}")
