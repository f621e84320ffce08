"""What a launcher is: the one thing that differs between a laptop, a Ray cluster and a batch system.

A launcher starts the same idempotent command, ``python -m fairstep.train DIRECTORY``, on a run's directory and says how
the run goes. torchrun starts it where a trial has several processes. A launcher decides nothing: the runner
(``tournament/runner.py``) says what to start, how long to wait and what to start again, so timeouts and retries are the
same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from typing import IO, Any, Protocol, Self

from fairstep.runs import Run

Event = dict[str, Any]
"""{"event": "progress", "run": identity, "step": n, "steps": n, "loss": x, "tokens_per_second": x}, as often as the
launcher knows, or {"event": "end", "run": identity, "status": "done" | "diverged" | "failed", "message": sentence},
once for every start. {"event": "waiting", "run": identity}: the run is in a queue, and nobody should be impatient until
the next word. Other events are ignored. An end event comes after the run's summary.json can be read."""

LAST_WORDS = 65_536
"""Bytes of a process's standard error that are looked at when it has died."""

LEFT_BEHIND = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "NNODES", "NPROC_PER_NODE"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_", "PET_", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "SLURM_", "SLURMD_", "SUBMITIT_"),
    *("OMPI_", "PMI_", "PMIX_", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PALS_", "JSM_", "PBS_", "FLUX_TASK_"),
)
"""Variables, and beginnings (which end in _) of their names, by which torchrun, Kubeflow, MPI or a scheduler tells a
process what it is. A worker that inherits them would take itself for one of many."""


def environment() -> dict[str, str]:
    """This process's environment without what it was told of itself."""
    return {name: value for name, value in os.environ.items() if not _left_behind(name)}


def limits(threads: int) -> dict[str, str]:
    """The variables that hold a process to so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), str(threads))


def _left_behind(name: str) -> bool:
    return name != "SLURM_CONF" and any(
        name.startswith(word) if word.endswith("_") else name == word for word in LEFT_BEHIND
    )


def kind_of(run: Run) -> str:
    """Whose code runs in a worker of the run; a worker serves one kind. The built-in optimizers are one kind. Each of
    another package is one: what it changes in its process must not reach another contestant's run."""
    optimizer = run.spec.optimizer
    return f"{optimizer.name} {optimizer.version}" if optimizer.version else ""


def event_of(line: str | bytes) -> Event | None:
    """The event that a worker wrote; None for a line that is none, which somebody printed before the worker began."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def death(run: Run, code: int, errors: IO[bytes]) -> Event:
    """The end event of a run whose process ended before it; its last words are kept with the run."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - LAST_WORDS))
    words = errors.read().decode(errors="replace").strip("\0 \n")
    if words:
        with contextlib.suppress(OSError):
            run.write_error(words + "\n")
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    message = f"its process {how}" + (f": {words.splitlines()[-1]}" if words else "")
    return {"event": "end", "run": run.id, "status": "failed", "message": message}


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
