"""What a checkpoint holds of a training: weights, optimizer state and generators, by name, as this rank has them.

Whole tensors in one process and under ddp, portions of the optimizer's state under ddp-sharded, and under fsdp the
weights in shards too, so that no rank gathers anything. What is no tensor is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fairstep.optim.engine import Engine
from fairstep.optim.engine import state as own

if TYPE_CHECKING:
    from fairstep.train.step import Trainer


def dump(trainer: Trainer) -> dict[str, Any]:
    """Everything that the next step depends on. The tensors are the live ones."""
    saved = {"model": _weights(trainer), "optimizer": _by_name(trainer)}
    return saved | {"random": _random_state(trainer.device)} if trainer.world.first else saved


def room(trainer: Trainer, described: Mapping[str, Any]) -> dict[str, Any]:
    """Where the saved state is to be read to: the weights themselves, new tensors for the rest; None: no tensor.

    Raises ValueError if it is of another model.
    """
    weights, saved = _weights(trainer), described["model"]
    for name in weights.keys() | saved.keys():
        have, wanted = (tuple(ws[name].shape) if name in ws else None for ws in (saved, weights))
        if have != wanted:
            what = f"no {name}" if have is None else f"a {name} of shape {have}"
            raise ValueError(f"the checkpoint is of another model: it has {what}, and this one has {wanted or 'none'}")
    saved = described["optimizer"]
    state = own.allocate_like(trainer.optimizer, saved) if isinstance(trainer.optimizer, Engine) else _empty(saved)
    return {"model": weights, "optimizer": state, "random": _empty(described["random"])}


def load(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Go on from a state that was read into ``room``. Raises ValueError for that of another optimizer."""
    saved = state["optimizer"]
    if not isinstance(trainer.optimizer, Engine):
        saved = _by_number(trainer, saved)
    trainer.optimizer.load_state_dict(saved)
    trainer.exchange.weights_were_read()
    torch.set_rng_state(state["random"]["cpu"])
    if trainer.device.type == "cuda" and "cuda" in state["random"]:
        torch.cuda.set_rng_state(state["random"]["cuda"], trainer.device)


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    """The live parameters, a tied one under its first name. No buffer of our models lasts longer than a step."""
    return {name: p.detach() for name, p in trainer.model.named_parameters()}


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """torch's global generators."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _by_name(trainer: Trainer) -> dict[str, Any]:
    """The optimizer's state dict, with the state of another's by parameter name too.

    What is no tensor is in tuples, which torch.distributed.checkpoint writes as they are: a list or a dict it would
    take apart, number by number.
    """
    saved = dict(trainer.optimizer.state_dict())
    saved["param_groups"] = tuple(saved["param_groups"])
    if isinstance(trainer.optimizer, Engine):
        return saved
    names, state = _names(trainer), saved.pop("state")
    return {
        **saved,
        "optimizer": trainer.spec.optimizer.name,
        "state": {
            names[number]: {k: (v,) if isinstance(v, Mapping | list | tuple) else v for k, v in entry.items()}
            for number, entry in state.items()
        },
    }


def _by_number(trainer: Trainer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of another's optimizer, of which ``_by_name`` made this."""
    if saved["optimizer"] != trainer.spec.optimizer.name:
        raise ValueError(f"this is the state of {saved['optimizer']}, which {trainer.spec.optimizer.name} cannot load")
    numbers = {name: number for number, name in enumerate(_names(trainer))}
    state = {
        numbers[name]: {k: v[0] if isinstance(v, tuple) else v for k, v in entry.items()}
        for name, entry in saved.get("state", {}).items()
    }
    return {**{k: v for k, v in saved.items() if k != "optimizer"}, "state": state}


def _names(trainer: Trainer) -> list[str]:
    """Names of parameters by their number in a state dict of torch."""
    known = {p: name for name, p in trainer.model.named_parameters()}
    return [known[p] for group in trainer.optimizer.param_groups for p in group["params"]]


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
