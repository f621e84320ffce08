"""A trained model as Hugging Face Transformers reads it: ours by another name, one of theirs as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairstep.model.shapes import parameter_table
from fairstep.runs import AnyModelSpec, ForeignModelSpec

if TYPE_CHECKING:
    from torch import Tensor


def exported_config(model: AnyModelSpec) -> dict[str, Any]:
    """config.json. Raises ValueError, saying why, for a model that Transformers has no equal of."""
    if not isinstance(model, ForeignModelSpec):
        from fairstep.model.hf import hf_config

        return hf_config(model)
    if model.factory:
        raise ValueError(
            f"Transformers has no model like {model.factory}; the run's weights.safetensors has its weights under its "
            "own names, for load_state_dict of what it builds"
        )
    return {**model.config, "vocab_size": model.vocabulary, "dtype": "float32"}


def exported_weights(model: AnyModelSpec, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Transformers' names and tensors. Raises ValueError for weights that are not this model's."""
    if isinstance(model, ForeignModelSpec):
        return dict(weights)
    from fairstep.model.hf import hf_weights

    return hf_weights(model, weights)


def problem(model: AnyModelSpec, weights: Mapping[str, Tensor]) -> str:
    """What in the weights cannot be the model's, or nothing. Of a foreign model only numbers are known, not names."""
    shapes: dict[str, tuple[int, ...]] = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if not isinstance(model, ForeignModelSpec):
        shapes = {parameter.name: parameter.shape for parameter in parameter_table(model)}
    for name, shape in shapes.items():
        found = weights.get(name)
        if found is None or tuple(found.shape) != shape:
            have = "missing" if found is None else f"of shape {tuple(found.shape)}"
            return f"{name} is {have} and should be of shape {shape}"
        if not bool(found.isfinite().all()):
            return f"{name} holds what is no finite number"
    return ""
