"""What a checkpoint holds of a training: weights, optimizer state and generators, by name, as this rank has them.

One process and ddp have whole tensors, ddp-sharded has portions of the optimizer's state, and fsdp has shards of the
weights too: no rank gathers anything. What is no tensor is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairstep.optim.engine import Engine
from fairstep.optim.engine import state as engine_state
from fairstep.train.ranks.world import World
from fairstep.train.weights import kept_buffers


def dump(model: nn.Module, optimizer: torch.optim.Optimizer, name: str, world: World) -> dict[str, Any]:
    """Everything that the next step depends on. The tensors are the live ones. ``name``: the optimizer's."""
    saved = {"model": _weights(model), "optimizer": _by_name(model, optimizer, name)}
    return saved | {"random": _random_state(_device(model))} if world.first else saved


def allocate_like(model: nn.Module, optimizer: torch.optim.Optimizer, described: Mapping[str, Any]) -> dict[str, Any]:
    """Where a saved state is to be read to: the weights themselves, new tensors for the rest; None: no tensor.

    Raises ValueError if the state is of another model.
    """
    weights, saved = _weights(model), described["model"]
    for name in weights.keys() | saved.keys():
        have, wanted = (tuple(ws[name].shape) if name in ws else None for ws in (saved, weights))
        if have != wanted:
            what = f"no {name}" if have is None else f"a {name} of shape {have}"
            raise ValueError(f"the checkpoint is of another model: it has {what}, and this one has {wanted or 'none'}")
    saved = described["optimizer"]
    state = engine_state.allocate_like(optimizer, saved) if isinstance(optimizer, Engine) else _empty(saved)
    return {"model": weights, "optimizer": state, "random": _empty(described["random"])}


def load(model: nn.Module, optimizer: torch.optim.Optimizer, name: str, state: Mapping[str, Any]) -> None:
    """Go on from a state that was read into ``allocate_like``. Raises ValueError for another optimizer's state."""
    saved = state["optimizer"]
    optimizer.load_state_dict(saved if isinstance(optimizer, Engine) else _by_number(model, optimizer, name, saved))
    torch.set_rng_state(state["random"]["cpu"])
    if "cuda" in state["random"] and _device(model).type == "cuda":
        torch.cuda.set_rng_state(state["random"]["cuda"], _device(model))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The live parameters, a tied one under its first name, and the buffers that are part of the model's state."""
    return {name: p.detach() for name, p in model.named_parameters()} | kept_buffers(model)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """torch's global generators."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _by_name(model: nn.Module, optimizer: torch.optim.Optimizer, name: str) -> dict[str, Any]:
    """The optimizer's state dict; the state of another package's optimizer is by parameter name too.

    What is no tensor is in tuples, which torch.distributed.checkpoint writes as they are: a list or a dict it would
    take apart, number by number, and its keys would become words. So is all that is not a parameter's state by name.
    """
    saved = dict(optimizer.state_dict())
    if isinstance(optimizer, Engine):
        return {**saved, "param_groups": tuple(saved["param_groups"])}
    names = dict(enumerate(_names(model, optimizer)))
    state, further = saved.pop("state", {}), {}
    for number in [number for number in state if number not in names or not _has_words(state[number])]:
        further[number] = state[number]
    content = {
        "optimizer": name,
        "param_groups": tuple(saved.pop("param_groups", ())),
        "state": {
            names[number]: {k: (v,) if isinstance(v, Mapping | list | tuple) else v for k, v in entry.items()}
            for number, entry in state.items()
            if number not in further
        },
    }
    return content | {_FURTHER: (saved, further)} if saved or further else content


_FURTHER = "further"
"""Where a state dict has (what is beside state and param groups, state that is not a parameter's by words)."""


def _has_words(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(isinstance(key, str) for key in entry)


def _by_number(
    model: nn.Module, optimizer: torch.optim.Optimizer, name: str, saved: Mapping[str, Any]
) -> dict[str, Any]:
    """The state dict of another package's optimizer, of which ``_by_name`` made this."""
    if saved["optimizer"] != name:
        raise ValueError(f"this is the state of {saved['optimizer']}, which {name} cannot load")
    numbers = {parameter: number for number, parameter in enumerate(_names(model, optimizer))}
    state = {
        numbers[parameter]: {k: v[0] if isinstance(v, tuple) else v for k, v in entry.items()}
        for parameter, entry in saved.get("state", {}).items()
    }
    beside, further = saved.get(_FURTHER, ({}, {}))
    rest = {k: v for k, v in saved.items() if k not in ("optimizer", _FURTHER)}
    return {**rest, **beside, "state": {**state, **further}}


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of parameters by their number in a state dict of torch."""
    names = {p: name for name, p in model.named_parameters()}
    return [names[p] for group in optimizer.param_groups for p in group["params"]]


def _empty(described: Mapping[str, Any]) -> dict[str, Any]:
    """New memory for tensors on the meta device."""
    return {
        key: _empty(value)
        if isinstance(value, Mapping)
        else torch.empty_like(value, device="cpu")
        if isinstance(value, Tensor)
        else None
        for key, value in described.items()
    }
