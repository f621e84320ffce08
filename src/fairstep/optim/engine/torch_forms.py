"""Settings in the forms that torch's optimizers take: betas, lr=0, lr as a tensor, keys of the user's in groups.

A learning rate of 0 is a pause that a scheduler or the user ends, so that it is allowed here and in no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from numbers import Real
from typing import Any

from torch import Tensor

from fairstep.optim.roles import Value
from fairstep.optim.spec import OptimizerSpec, did_you_mean
from fairstep.optim.spec.overrides import KEPT, LR_RATIO

OURS = ("params", "param_names", "rule", "decay", "peak_lr", "shared")
"""Keys of a param group that the engine writes."""
ELSEWHERE = {
    **dict.fromkeys(("role", "roles"), "say it with the optimizer's roles"),
    **dict.fromkeys((LR_RATIO, *KEPT), "say it with the optimizer's overrides"),
    **dict.fromkeys(("overrides", "undecayed", "stacked", "rounding"), "give it to the optimizer"),
}
"""Names that mean something, and not in a param group."""
OTHER_STEPS = ("maximize", "amsgrad")
"""Keys of torch's groups with which its optimizers would take another step."""
UNREAD = ("betas", *OTHER_STEPS)
"""Keys with which a loop written for torch's optimizers means something that no rule of ours reads in a live group."""


def numbers(spec: OptimizerSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """``betas`` as beta1, beta2, ..., and a learning rate that is a tensor as the number that it is now.

    Raises ValueError if there are not as many betas as the optimizer has, or a beta is given twice.
    """
    settings = dict(given)
    lr = settings.get("lr")
    if isinstance(lr, Tensor) and lr.numel() == 1:
        settings["lr"] = lr.item()
    names = [name for name in spec.hyperparameters if name.startswith("beta") and name[4:].isdigit()]
    if "betas" in settings and names:
        betas = settings.pop("betas")
        if not isinstance(betas, list | tuple) or len(betas) != len(names):
            raise ValueError(f"{spec.name}: betas must be ({', '.join(names)}), not {betas!r}")
        for name in names:
            if name in settings:
                raise ValueError(f"{spec.name}: {name} is given twice, in betas too; leave one out")
        settings |= zip(names, betas, strict=True)
    return settings


def validate(spec: OptimizerSpec, settings: Mapping[str, Any]) -> dict[str, Value]:
    """``OptimizerSpec.validate``, which for a library also takes a learning rate of 0."""
    lr = settings.get("lr")
    if isinstance(lr, bool | Tensor) or not isinstance(lr, Real) or lr != 0:
        return spec.validate(settings)
    return {**spec.validate({name: value for name, value in settings.items() if name != "lr"}), "lr": 0.0}


def of_group(spec: OptimizerSpec, group: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(hyperparameters, keys that are kept and not read) of a param group as a user gives it.

    Raises ValueError for a key that is the engine's, or that is taken for a hyperparameter written otherwise.
    """
    settings = numbers(spec, {key: value for key, value in group.items() if key != "params"})
    known = (*spec.hyperparameters, *spec.retired)
    kept = {key: value for key, value in settings.items() if key not in known}
    inside = {name for part in spec.parts for name in part.rule.hyperparameters}
    for key in kept:
        if key in OURS:
            raise ValueError(f"a param group's {key} is the optimizer's to write; leave it out")
        if key in ELSEWHERE:
            raise ValueError(f"{key} is not read in a param group; {ELSEWHERE[key]}")
        if key in OTHER_STEPS and kept[key]:
            raise _refused(spec, key)
        if key == "betas" or key in inside or get_close_matches(key, known, cutoff=0.8):
            raise ValueError(f"{spec.name} has no hyperparameter {key!r}{did_you_mean(key, known)}")
    return {key: value for key, value in settings.items() if key in known}, kept


def check_unread(spec: OptimizerSpec, number: int, group: Mapping[str, Any]) -> None:
    """Raise ValueError for what a loop has put into a live param group, and which would be another step with torch."""
    for key in OTHER_STEPS:
        if group.get(key):
            raise _refused(spec, key)
    if "betas" in group:
        names = ", ".join(name for name in group if name.startswith("beta") and name[4:].isdigit())
        told = f"set {names}" if names else f"{spec.name} has none"
        raise ValueError(f"param group {number} was given betas after it was built, which nothing reads; {told}")


def _refused(spec: OptimizerSpec, key: str) -> ValueError:
    return ValueError(f"{spec.name} has no {key}, which this param group asks for; leave it out")
