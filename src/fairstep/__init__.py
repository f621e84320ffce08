"""fairstep: fair benchmarks for language-model pretraining optimizers.

The rooms are subpackages (see docs/explanation/design.md). Nothing is imported here, so that ``fairstep --help`` and
every verb that does not train answer without loading torch. ``fairstep.judge`` is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairstep.cli.judging import judge

__all__ = ["judge"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "judge":
        from fairstep.cli.judging import judge

        return judge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
