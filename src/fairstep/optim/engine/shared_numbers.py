"""Numbers that all parameters of a rule have in common, such as Prodigy's estimate d of the learning rate.

They lie in the param groups, as ``group["shared"]``, and so in the state dict. Each step they are computed from sums
over all parameters before any parameter is updated, so that they do not depend on how parameters are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fairstep.optim.engine.signals import NUMBERS, Supplied
from fairstep.optim.engine.stacks import Stack, compute_dtype
from fairstep.optim.engine.step import blocks
from fairstep.optim.rule import Context, Rule, Total, call


def update_shared(
    stacks: Iterable[Stack],
    groups: Iterable[dict[str, Any]],
    supplied: Supplied,
    rules: Mapping[str, Rule],
    total: Total | None = None,
) -> None:
    """Bring the shared numbers of every rule that has some up to date.

    With ``total`` the stacks are this process's share, which may be none: all processes must ask each other equally
    often. If no process has any stack of a rule, its numbers take a step without a gradient. Raises ValueError, before
    anything is changed, if the learning rates of a rule that has one (``Rule.one_lr``) differ.
    """
    groups = list(groups)
    for name, rule in rules.items():
        if rule.one_lr:
            _check_one_rate(name, groups)
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
            for grad, weights, state in blocks(stack, supplied, write=False):
                part = call(stack.rule.measure, stack.context, grad, state, weights)
                sums = part if sums is None else sums + part.to(sums.device)
        if total:
            sums = total(sums if sums is not None else _nothing(rules[name], group))
        if sums is None or sums.is_meta:  # without data there are no numbers to agree on
            continue
        given = {signal: supplied[signal][""].item() for signal in NUMBERS if signal in supplied}
        context = replace(members[0].context if members else Context(group), given=given)
        numbers = call(rules[name].agree, context, sums.tolist())
        for other in groups:
            if other["rule"] == name:
                other["shared"] = numbers


def effective_lr(groups: Iterable[dict[str, Any]], rules: Mapping[str, Rule]) -> float | None:
    """lr of the first group whose lr is not 0, times the factor that shared numbers gave it in the last step; None if
    no rule shares numbers."""
    sharing = [group for group in groups if "shared" in group]
    for group in sorted(sharing, key=lambda group: not group["lr"]):
        return float(group["lr"]) * call(rules[group["rule"]].lr_factor, Context(group))
    return None


def _check_one_rate(rule: str, groups: Iterable[Mapping[str, Any]]) -> None:
    rates = sorted({float(group["lr"]) for group in groups if group["rule"] == rule} - {0.0})
    if len(rates) > 1:
        shown = ", ".join(f"{rate:g}" for rate in rates)
        raise ValueError(
            f"{rule} estimates one learning rate for all parameters, and the param groups have the factors {shown}; "
            "give all groups the same lr, or 0"
        )


def _nothing(rule: Rule, group: dict[str, Any]) -> Tensor:
    """The share of a process that has no parameter of the rule."""
    p, context = group["params"][0], Context(group)
    size = (0,) if rule.elementwise else (0, 1, 1)
    empty = torch.empty(size, dtype=compute_dtype(p.dtype), device=p.device)
    return call(rule.measure, context, empty, call(rule.init, context, empty), empty)
