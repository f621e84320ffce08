"""One way from a spec to a model: one of ours, or anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from fairstep.model.base import LanguageModel
from fairstep.model.classic import BERT, GPT2
from fairstep.model.config import ModelConfig, config_of
from fairstep.model.facts import block_of
from fairstep.model.llama import Llama
from fairstep.model.track3 import Track3
from fairstep.runs import ForeignModelSpec

if TYPE_CHECKING:
    from fairstep.model.foreign.module import ForeignModel

MODELS: dict[str, type[LanguageModel]] = {"llama": Llama, "gpt2": GPT2, "bert": BERT, "track3": Track3}


AnyModel: TypeAlias = "LanguageModel | ForeignModel"
"""What a training loop trains: called with tokens and targets it gives the loss; ``logits``, ``measurements``,
``roles``, and ``network``, the module whose parameters these are."""


def build(config: ModelConfig | ForeignModelSpec | Mapping[str, Any]) -> AnyModel:
    """The model of a spec, or of a ModelSpec's fields; its first weights are drawn from torch's global generator.

    Raises SpecError with one sentence for fields that no ModelSpec has, or values that it refuses, and for a foreign
    model that cannot be built.
    """
    if isinstance(config, ForeignModelSpec):
        return _foreign(config)
    if not isinstance(config, ModelConfig):
        config = config_of(config)
    return MODELS[config.architecture](config)


def outline(config: ModelConfig | ForeignModelSpec) -> AnyModel:
    """The model on the meta device, where its parameters have names and shapes and no memory."""
    with torch.device("meta"):
        return build(config)


def build_empty(config: ModelConfig | ForeignModelSpec, device: torch.device) -> AnyModel:
    """A model whose weights are to be replaced, on a device. Torch's global generator stays as it is."""
    if isinstance(config, ForeignModelSpec):  # it may hold tensors that are no parameters and no buffers
        with torch.random.fork_rng():
            return _foreign(config).to(device)
    with torch.device("meta"):
        model = MODELS[config.architecture](config)
    model = model.to_empty(device=device)
    if config.tied_head:
        model.head.weight = model.embedding.weight
    return model


def blocks(network: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a network, outermost ones only, in the order of its parameters."""
    names = dict.fromkeys(filter(None, (block_of(name) for name, _ in network.named_parameters())))
    return [network.get_submodule(name) for name in names]


def _foreign(spec: ForeignModelSpec) -> ForeignModel:
    from fairstep.model.foreign import building  # loads torch's compiler, which takes seconds

    return building.build(spec)
