"""One run: RunSpec in, run directory out. Nothing here knows of contests, tuning or screens.

``python -m fairstep.train`` is the command that any launcher starts (see ``__main__.py``); ``train`` is the function.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairstep.train.loop import Progress
    from fairstep.train.run import train

__all__ = ["Progress", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Progress", "train"):
        from fairstep.train import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
