"""State dicts by number, as torch.distributed.checkpoint.state_dict reads and writes them.

Its ``get_optimizer_state_dict`` asks an optimizer for its state dict, and puts a parameter's name where the number is.
Where a name is, it would put the number. Its ``set_optimizer_state_dict`` gives names, and of what is beside them the
state and the param groups only. So each group carries along what a state dict of ours says once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fairstep.optim.engine.routed import Routed

_ASKER = "torch.distributed.checkpoint.state_dict"
_ONCE = ("format", "optimizer")


def asked() -> bool:
    """Whether it is torch.distributed.checkpoint that asks for the state dict."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != _ASKER:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def numbered(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict of ours in torch's form."""
    names = [name for group in saved["param_groups"] for name in group["params"]]
    numbers = {name: number for number, name in enumerate(names)}
    once = {key: saved[key] for key in _ONCE}
    groups = [
        {**group, **once, "params": [numbers[name] for name in group["params"]], "param_names": group["params"]}
        for group in saved["param_groups"]
    ]
    return {"state": {numbers[name]: entry for name, entry in saved["state"].items()}, "param_groups": groups}


def named(optimizer: Routed, saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of ours that ``numbered`` became, with the names that the optimizer has; others are as they were.

    Of parameters that the optimizer knows by other names than torch, or by none, the order counts. A flattened state
    dict has lost what ``numbered`` added, and is taken to be of this optimizer.
    """
    groups = saved.get("param_groups", ())
    if "format" in saved or not groups or not all("rule" in group for group in groups):
        return saved
    names: dict[str, str] = {}
    for group, other in zip(optimizer.param_groups, groups, strict=False):
        theirs, ours = other["params"], group["param_names"]
        names |= zip(theirs, theirs if set(theirs) == set(ours) or len(theirs) != len(ours) else ours, strict=True)
    if not any(key in groups[0] for key in _ONCE):
        groups = [
            {**other, "in_by_out": in_by_out(optimizer, group)}
            for group, other in zip(optimizer.param_groups, groups, strict=True)
        ]
    once = {"format": 1, "optimizer": optimizer.spec.name} | {k: groups[0][k] for k in _ONCE if k in groups[0]}
    return {
        **once,
        "state": {names.get(name, name): entry for name, entry in saved["state"].items()},
        "param_groups": [
            {k: v for k, v in group.items() if k not in _ONCE} | {"params": [names.get(n, n) for n in group["params"]]}
            for group in groups
        ],
    }


def in_by_out(optimizer: Routed, group: Mapping[str, Any]) -> list[int]:
    """Places in a param group of the weights that are stored as in x out. A square one's state shows it in no shape."""
    return [place for place, name in enumerate(group["param_names"]) if name in optimizer.in_by_out]
