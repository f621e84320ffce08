"""Numbers that all parameters of a rule have in common, such as Prodigy's estimate d of the learning rate.

They lie in the param groups, as ``group["shared"]``, and so in the state dict. Each step they are found from sums over
all parameters before any parameter is updated, so that the result does not depend on how parameters are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from fairstep.optim import descent, signals
from fairstep.optim.stacks import Stack


def agree(stacks: Iterable[Stack], groups: Iterable[dict[str, Any]], supplied: signals.Supplied) -> None:
    """Bring the shared numbers of every rule that has some up to date."""
    sharing: dict[str, list[Stack]] = {}
    for stack in stacks:
        if "shared" in stack.group:
            sharing.setdefault(stack.rule.name, []).append(stack)
    for name, members in sharing.items():
        sums: Tensor | None = None
        for stack in members:
            for grad, weights, state in descent.blocks(stack, supplied, write=False):
                part = stack.rule.measure(grad, state, weights, stack.group)
                sums = part if sums is None else sums + part.to(sums.device)
        assert sums is not None
        numbers = members[0].rule.agree(sums.tolist(), members[0].group)
        for group in groups:
            if group["rule"] == name:
                group["shared"] = numbers
