"""The stacks of an optimizer from step to step: formed once, and anew only where something has changed.

Which parameters have a gradient may change every step: experts that saw no token, a second task. Members that miss a
step are apart from then on, because the others are a step ahead. So a set that comes again finds its stacks as they
were, and of a set that is new only those stacks are formed whose members have not been together before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch

from fairstep.optim.engine import state as state_dicts
from fairstep.optim.engine.rounding import Rounding
from fairstep.optim.engine.routed import Routed
from fairstep.optim.engine.stacks import FusedPart, Placed, Scratch, Stack, alike, compute_dtype, cut, most_elements

_MOST_SETS = 64
"""Sets of present gradients whose stacks are remembered. They hold no memory beside the stacks that are in use."""

_Read = tuple[Callable[[Any], Any], dict[str, Any]]
_Key = tuple[tuple[int, FusedPart | None], ...]


class FormedStacks:
    """Stacks by which parameters have a gradient. ``live`` are all whose state is the parameters' own."""

    def __init__(self) -> None:
        self._formed_for: list[Any] = []
        self._settings: list[_Read] = []
        self._begin()

    def _begin(self) -> None:
        self._sets: dict[tuple[bool, ...], list[Stack]] = {}
        self.live: dict[_Key, Stack] = {}
        self._scratch = Scratch()

    def of(self, optimizer: Routed, stacked: bool, rounding: Rounding) -> list[Stack]:
        """Stacks of the parameters that have a gradient.

        If anyone else has changed state, parameters or param groups, they count as they are now.
        """
        absent = tuple([p.grad is None for group in optimizer.param_groups for p in group["params"]])
        if self._identities(optimizer) != self._formed_for or not all(stack.intact for stack in self.live.values()):
            state_dicts.check(optimizer)
            self._begin()
            self._formed_for = []  # so that a refusal on the way leaves nothing that counts
            self._sets[absent] = self._form(optimizer, stacked, rounding)
            self._settings = _settings(optimizer)
            self._formed_for = self._identities(optimizer)
        if absent not in self._sets:
            formed = self._form(optimizer, stacked, rounding)
            live = set(map(id, self.live.values()))
            kept = {k: stacks for k, stacks in self._sets.items() if live.issuperset(map(id, stacks))}
            self._sets = {**(kept if len(kept) < _MOST_SETS else {}), absent: formed}
        return self._sets[absent]

    def _identities(self, optimizer: Routed) -> list[Any]:
        """What the stacks are formed for. What they hold lives as long as they do, so that no id comes again."""
        parameters = [
            (id(group), id(p), id(optimizer.state.get(p)), p.shape, p.dtype, p.device)
            for group in optimizer.param_groups
            for p in group["params"]
        ]
        ownership = optimizer.ownership
        tensors = ownership.tensors.values() if ownership else ()
        settings = [read(group) for read, group in self._settings]
        return [(len(optimizer.state), *map(id, tensors), *settings), *parameters]

    def _form(self, optimizer: Routed, stacked: bool, rounding: Rounding) -> list[Stack]:
        """Stacks for the gradients that there are now, those that live among them, in an order that they decide."""
        rules = optimizer.rules
        runs = {tuple([(id(one.tensor), one.part) for _, one in run]): run for run in _runs(optimizer, stacked)}
        new = {key: run for key, run in runs.items() if key not in self.live}
        taken = {member.key for run in new.values() for _, member in run}
        if self.live:
            state_dicts.check(optimizer, taken)
        for run in new.values():
            p = run[0][1].tensor
            if len(run) > 1:
                elements = sum(member.layout.elements for _, member in run)
                self._scratch.reserve(p.device, compute_dtype(p.dtype), elements)
        made = {key: Stack(rules[run[0][0]["rule"]], run, self._scratch, rounding) for key, run in new.items()}
        for key, stack in list(self.live.items()):
            if any(member.key in taken for member in stack.members):
                stack.release(taken)
                del self.live[key]
        self.live |= made
        state_dicts.describe_absent(optimizer)
        return [self.live[key] for key in runs]


def _settings(optimizer: Routed) -> list[_Read]:
    """How to read what groups of one stack have in common, which anyone may change."""
    named = [(alike(optimizer.rules[group["rule"]], group), group) for group in optimizer.param_groups]
    return [(itemgetter(*names), group) for names, group in named if names]


def _runs(optimizer: Routed, stacked: bool) -> list[Sequence[Placed]]:
    """The members of each stack. Raises ValueError for a sparse gradient."""
    gradients = {name: p.grad for name, p in optimizer.named_parameters()}
    buckets: dict[tuple[Any, ...], list[Placed]] = {}
    common: dict[int, Any] = {}
    for group, member in optimizer.members():
        grad = gradients[member.name]
        if grad is None:
            continue
        if grad.layout != torch.strided:
            raise ValueError(f"parameter {member.name} has a sparse gradient; build its embedding with sparse=False")
        if id(group) not in common:
            names = alike(optimizer.rules[group["rule"]], group)
            common[id(group)] = tuple((name, group[name]) for name in names) or id(group)
        alone = member.name if not stacked or member.shard else None
        p = member.tensor
        key = (common[id(group)], member.layout.tail, p.dtype, p.device, member.numbers, alone)
        buckets.setdefault(key, []).append((group, member))
    runs: list[Sequence[Placed]] = []
    for placed in buckets.values():
        group, member = placed[0]
        runs += cut(placed, most_elements(member.tensor.device, optimizer.rules[group["rule"]]))
    return runs
