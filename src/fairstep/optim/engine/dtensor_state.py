"""Optimizer state as DTensors, as torch.distributed.checkpoint's ``get_optimizer_state_dict`` gathers and loads it.

A state tensor of a shard is a DTensor as it lies. One of a gathered matrix, which its owner has, is divided by rows for
the saving and put together again after the loading, one tensor after another. All ranks call these functions together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from fairstep.optim.engine.dtensors import DTensorShards
from fairstep.optim.engine.local_dtensors import LocalDTensors
from fairstep.optim.sharding.partition import shard
from fairstep.optim.sharding.state_shards import ShardLayout, StateShard

State = Mapping[str, dict[str, Any]]
"""Of each parameter, its state. Tensors without memory say the sizes of what another rank has."""


def distribute(
    owned: DTensorShards | LocalDTensors, state: State, layouts: Mapping[str, ShardLayout]
) -> dict[str, dict[str, Any]]:
    """State by name for all ranks, of which ``state`` has what lies here: pieces as ``StateShard``.

    What all ranks have whole stays a tensor.
    """
    if isinstance(owned, LocalDTensors):
        return owned.distribute(state)
    return {
        name: {
            key: _distributed(owned, name, key, value, layouts.get(name)) if isinstance(value, Tensor) else value
            for key, value in sorted(entry.items())
        }
        for name, entry in _with_owners_numbers(owned, state).items()
    }


def localise(
    owned: DTensorShards | LocalDTensors, name: str, entry: Mapping[str, Any], layout: ShardLayout | None
) -> dict[str, Any]:
    """A parameter's saved state with its DTensors as the part that lies here, or whole; ``layout``: None if absent."""
    if isinstance(owned, LocalDTensors):
        return owned.localise(name, entry)
    found = dict(entry)
    for key, value in sorted(entry.items()):
        if not isinstance(value, DTensor):
            continue
        dim = int(key in layout.sharding.second) if layout else 0
        alike = value.device_mesh == owned.mesh and value.placements == _placed(owned, dim)
        if name in owned.gathered or not alike:
            whole = value.full_tensor()
            found[key] = whole if layout else None
        elif layout:
            part: Tensor = value.to_local()
            if layout.elementwise and not layout.piece.whole:
                part = part.reshape(-1, *part.shape[len(layout.shape) :])
            found[key] = layout.shard(key, part)
    return found


def _distributed(owned: DTensorShards, name: str, key: str, value: Tensor, layout: ShardLayout | None) -> Tensor:
    if name in owned.gathered:
        whole = _assembled(owned, name, value, layout)
        if not whole.ndim:
            return whole
        start, stop = shard(len(whole), owned.rank, owned.ranks)
        return _dtensor(owned, whole[start:stop].clone(), whole.shape, 0)
    if layout and (key in layout.sharding.repeated or not value.ndim):
        return value
    dim = int(key in layout.sharding.second) if layout else 0
    start, stop = shard(value.shape[dim], owned.rank, owned.ranks)
    size = (*value.shape[:dim], stop - start, *value.shape[dim + 1 :])
    if not layout:
        return _dtensor(owned, torch.empty(size, dtype=value.dtype, device=owned.device), value.shape, dim)
    return _dtensor(owned, (value.local if isinstance(value, StateShard) else value).view(size), value.shape, dim)


def _assembled(owned: DTensorShards, name: str, value: Tensor, layout: ShardLayout | None) -> Tensor:
    """A whole state tensor from the parts that owners have, to the bit."""
    whole = torch.zeros(value.shape, dtype=value.dtype, device=owned.device)
    if isinstance(value, StateShard):
        for offset, part in value.chunks():
            place = whole
            for dim, (start, length) in enumerate(zip(offset, part.shape, strict=True)):
                place = place.narrow(dim, start, length)
            place.copy_(part)
    elif layout and owned.rank == next(rank for rank, pieces in enumerate(owned.ownership) if name in pieces):
        whole.copy_(value)
    if owned.ranks > 1:  # the sum of one rank's bytes and zeros
        dist.all_reduce(whole.view(-1).view(torch.uint8), group=owned.group)
    return whole


def _dtensor(owned: DTensorShards, part: Tensor, size: torch.Size, dim: int) -> Tensor:
    stride = torch.empty(size, device="meta").stride()
    return DTensor.from_local(part, owned.mesh, _placed(owned, dim), run_check=False, shape=size, stride=stride)


def _placed(owned: DTensorShards, dim: int) -> tuple[Any, ...]:
    return tuple(Shard(dim) if placement == Shard(0) else placement for placement in owned.placements)


def _with_owners_numbers(owned: DTensorShards, state: State) -> State:
    """What is no tensor, nor the step, is known to owners alone."""
    numbers = {
        name: {k: v for k, v in entry.items() if k != "step" and not isinstance(v, Tensor)}
        for name, entry in state.items()
    }
    if owned.ranks == 1 or not any(numbers.values()):
        return state
    everyones: list[Any] = [None] * owned.ranks
    dist.all_gather_object(everyones, {n: own for n, own in numbers.items() if n in owned.owned}, group=owned.group)
    return {name: entry | next((own[name] for own in everyones if name in own), {}) for name, entry in state.items()}
