"""The contestants: optimizer rules, the engine that runs them, and the specs that describe them.

Each file of ``rules/`` is one optimizer: equations, rule and spec. The engine has once what all optimizers share:
routing of parameters, stacking, weight decay, state. What may not go in: anything of our other rooms, training loops,
learning-rate schedules, tuning, printing.

Sub-rooms, from the ground up; each imports only what is below it:

    roles, _lazy                 what a parameter is for; torch at its first use
    rule                         what a rule is, and how it gets hyperparameters
    spec, sharding               descriptions without torch; how ranks share the work
    maths                        mathematics that rules share
    wrappers                     changes that go around any optimizer
    rules                        one optimizer a file
    engine                       the torch optimizer that runs rules
    catalogue                    optimizers by name, ours and anyone's
    doctor                       conformance checks

Names that only describe (``names``, ``get``, ``OptimizerSpec`` and their kin) do not import torch; the others do so
when they are first asked for. Every optimizer is also a class for anyone's own loop:

>>> from fairstep.optim import SOAP
>>> optimizer = SOAP(model, lr=3e-3)
"""

from typing import Any

from fairstep.optim.catalogue.registry import build, check_version, get, names, optimizer_class, plugins, specs, version
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule
from fairstep.optim.spec import (
    DECAYS,
    Grid,
    Hyperparameter,
    OptimizerSpec,
    Paper,
    Part,
    Schedule,
    Sourced,
    Tuning,
    UnknownOptimizerError,
)

_NEEDS_TORCH = {"Engine": "engine", "state_bytes": "engine.state", "infer_roles": "engine.routing"}

__all__ = [
    "DECAYS",
    "ROLES",
    "Grid",
    "Hyperparameter",
    "OptimizerSpec",
    "Paper",
    "Part",
    "Rule",
    "Schedule",
    "Sourced",
    "Tuning",
    "UnknownOptimizerError",
    "build",
    "check_version",
    "get",
    "names",
    "plugins",
    "specs",
    "version",
]


def __getattr__(name: str) -> Any:
    """Names that need torch (PEP 562): the engine's, and one class per built-in optimizer."""
    if name in _NEEDS_TORCH:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
    if "+" in name:  # a class with wrappers, whose pickles ask for it by name
        return optimizer_class(get(name))
    for spec in specs().values() if name[:1].isupper() else ():  # a submodule is not a class
        if spec.class_name == name:
            return optimizer_class(spec)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_NEEDS_TORCH, *(spec.class_name for spec in specs().values())])
