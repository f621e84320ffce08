"""From the name of a mode to the exchange between the ranks of a run."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fairstep.optim.engine import Engine
from fairstep.train.ranks.exchange import Exchange
from fairstep.train.ranks.sharded import Sharded
from fairstep.train.ranks.world import World


def exchange(mode: str, world: World, model: nn.Module, forward: Any, optimizer: torch.optim.Optimizer) -> Exchange:
    """The exchange of that mode. Optimizers that are not ours cannot be divided; one process has nothing to divide.

    For fsdp the model is one that ``fsdp.shard_model`` divided. Raises ValueError if the optimizer is not ours.
    """
    if mode == "fsdp" and world.size > 1:
        if not isinstance(optimizer, Engine):
            raise ValueError(
                f"--parallel fsdp needs an optimizer of fairstep's, not {type(optimizer).__name__}; use --parallel ddp"
            )
        from fairstep.train.ranks.fsdp import FullySharded  # loads what takes most of a second, and few runs need

        return FullySharded(world, model, forward, optimizer)
    if mode == "ddp-sharded" and world.size > 1 and isinstance(optimizer, Engine):
        return Sharded(world, model, forward, optimizer)
    return Exchange(world, model, forward, optimizer)
