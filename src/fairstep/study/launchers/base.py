"""What a launcher is: the one thing that differs between a laptop, a Ray cluster and a batch system.

A launcher starts the same idempotent command, ``python -m fairstep.train DIRECTORY``, on a run's directory and says how
the run goes. torchrun starts it where a trial has several processes. A launcher decides nothing: the runner
(``tournament/runner.py``) says what to start, how long to wait and what to start again, so timeouts and retries are the
same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Protocol, Self

from fairstep.runs import Run

Event = dict[str, Any]
"""{"event": "progress", "run": identity, "step": n, "steps": n, "loss": x, "tokens_per_second": x}, as often as the
launcher knows, or {"event": "end", "run": identity, "status": "done" | "diverged" | "failed", "message": sentence},
once for every start. Other events are ignored. An end event comes after the run's summary.json can be read."""


def command(processes: int = 1) -> list[str]:
    """What is started, without its arguments; several processes on one machine train one run together."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(several if processes > 1 else ()), "-m", "fairstep.train"]


class Launcher(Protocol):
    """Use as a context manager; leaving it ends what it started, in the middle of a run too, unless it outlives us."""

    @property
    def threads(self) -> int:
        """Cores of each run."""
        ...

    def __str__(self) -> str:
        """Its name and how many runs it has room for, in words."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    @property
    def free(self) -> int:
        """How many more runs can be started now."""
        ...

    def start(self, run: Run) -> None:
        """Start a run whose directory holds spec.json. Never blocks on the run. ``free`` is at least 1."""
        ...

    def events(self, timeout: float) -> Iterable[Event]:
        """What was said since the last call; waits at most ``timeout`` seconds for it. A worker that died, was lost or
        was cancelled is an end event with status failed; one whose run is finished on disk ends with that status."""
        ...

    def cancel(self, identity: str) -> None:
        """End a run that is taking too long. Its end event (failed) follows in ``events``."""
        ...
