"""Training weights and evaluation weights: what ``Engine.train`` and ``Engine.eval`` do.

Some rules train at weights that should not be evaluated and exported (schedule-free's y, lookahead, averages).
``evaluate`` puts the evaluation weights into the parameters and keeps the training weights in the state, under
``KEPT``. ``resume`` gives these back to the bit, and a state saved in between is complete. For all other rules nothing
happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch

from fairstep.optim.engine.part_entry import KEPT
from fairstep.optim.engine.routed import Routed
from fairstep.optim.engine.stacks import compute_dtype
from fairstep.optim.rule import Context, call


def evaluating(state: Mapping[Any, Mapping[str, Any]]) -> bool:
    """Whether parameters hold weights to evaluate, which must not be trained."""
    return any(KEPT in entry for entry in state.values())


@torch.no_grad()
def evaluate(optimizer: Routed) -> None:
    """Put the weights to evaluate into the parameters. A second call changes nothing."""
    rules = optimizer.rules
    already = {name for name, p in optimizer.named_parameters() if KEPT in optimizer.state.get(p, ())}
    for group, member in chain(optimizer.members(), optimizer.members(absent=True)) if optimizer.state else ():
        entry, p = member.entry, member.tensor
        if not entry or member.name in already:
            continue
        oriented = member.oriented(p.detach())
        weights = oriented.reshape(-1, *member.layout.tail).to(compute_dtype(p.dtype))
        context = Context(group, member.shard)
        chosen = call(rules[group["rule"]].evaluation_weights, context, weights, member.rows(), entry["step"])
        if chosen is not weights:
            if KEPT not in entry:  # another part of the parameter was first
                entry[KEPT] = p.detach().clone()
            oriented.copy_(chosen.reshape(oriented.shape))


@torch.no_grad()
def resume(optimizer: Routed) -> None:
    """Put the training weights back, to the bit."""
    for _, member in chain(optimizer.members(), optimizer.members(absent=True)) if optimizer.state else ():
        if KEPT in member.entry:
            member.tensor.copy_(member.entry.pop(KEPT))
