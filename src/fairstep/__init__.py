"""fairstep: fair benchmarks for language-model pretraining optimizers.

The rooms are subpackages (see docs/explanation/design.md). Nothing is imported here, so that ``fairstep --help`` and
every verb that does not train answer without loading torch. The names of ``FRONT_DOORS`` are loaded when asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairstep.cli.contest import contest
    from fairstep.cli.judging import judge

__all__ = ["contest", "judge"]

__version__ = "0.1.0"

FRONT_DOORS = {"contest": "fairstep.cli.contest", "judge": "fairstep.cli.judging"}
"""What a script or a notebook calls -> the module that has it."""


def __getattr__(name: str) -> Any:
    if name in FRONT_DOORS:
        return getattr(importlib.import_module(FRONT_DOORS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
