"""Numbers that all parameters of a rule have in common, such as Prodigy's estimate d of the learning rate.

They lie in the param groups, as ``group["shared"]``, and so in the state dict. Each step they are found from sums over
all parameters before any parameter is updated, so that the result does not depend on how parameters are stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from fairstep.optim import descent, signals
from fairstep.optim.across import Total
from fairstep.optim.rule import Rule
from fairstep.optim.stacks import Stack, compute_dtype


def agree(
    stacks: Iterable[Stack],
    groups: Iterable[dict[str, Any]],
    supplied: signals.Supplied,
    rules: Mapping[str, Rule],
    total: Total | None = None,
) -> None:
    """Bring the shared numbers of every rule that has some up to date.

    With ``total`` the stacks are this process's share, which may be none: all processes must ask each other equally
    often. If no process has any stack of a rule, its numbers take a step without a gradient.
    """
    sharing: dict[str, tuple[dict[str, Any], list[Stack]]] = {}
    for group in groups:
        if "shared" in group:
            sharing.setdefault(group["rule"], (group, []))
    for stack in stacks:
        if "shared" in stack.group:
            sharing[stack.rule.name][1].append(stack)
    for name, (group, members) in sharing.items():
        sums: Tensor | None = None
        for stack in members:
            for part, _ in descent.carry_out(_measure(stack), stack, supplied, write=False):
                sums = part if sums is None else sums + part.to(sums.device)
        if total:
            sums = total(sums if sums is not None else _nothing(rules[name], group))
        if sums is None:
            continue
        numbers = rules[name].agree(sums.tolist(), members[0].group if members else group)
        for other in groups:
            if other["rule"] == name:
                other["shared"] = numbers


def _measure(stack: Stack) -> Callable[..., Tensor]:
    return lambda grad, weights, state: stack.rule.measure(grad, state, weights, stack.group)


def _nothing(rule: Rule, group: dict[str, Any]) -> Tensor:
    """The share of a process that has no parameter of the rule."""
    p = group["params"][0]
    empty = p.new_empty((0,) if rule.elementwise else (0, 1, 1), dtype=compute_dtype(p.dtype))
    return rule.measure(empty, rule.init(empty, group), empty, group)
