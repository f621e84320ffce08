"""What a run writes while it goes on: two JSONL files, and trackers where asked for.

``metrics.jsonl`` holds what the spec decides (losses, norms). It is the same to the byte for an interrupted run and an
undisturbed one. ``timings.jsonl`` holds what this machine took. Trackers are sent both.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from fairstep.runs import Run, RunSpec

FILES = ("metrics", "timings")


class Tracker(Protocol):
    """Where else the numbers go. ``values`` are flat, with names such as update_rms/matrix."""

    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class Recorder:
    """The files of a run, and its trackers. ``rewind`` first, then write; without it nothing is written.

    Raises OSError as the system gives it (full disk).
    """

    def __init__(self, run: Run, spec: RunSpec, active: bool = True) -> None:
        self.run = run
        self.files: dict[str, TextIO] = {}
        self.trackers: list[Tracker] = []
        if active:
            with _quiet():
                self.trackers = [open_tracker(name, run, spec) for name in spec.execution.trackers]

    def rewind(self, sizes: dict[str, int]) -> None:
        """Open the files and cut them back to the bytes that they had when a checkpoint was made (none: from nothing).

        Raises ValueError if a file is shorter than that, which says that the checkpoint is not of these files.
        """
        for name in FILES:
            path = self.run.directory / f"{name}.jsonl"
            size = sizes.get(name, 0)
            if size and (not path.exists() or path.stat().st_size < size):
                raise ValueError(f"{path.name} is shorter than it was")
        for name in FILES:
            file = self.files[name] = (self.run.directory / f"{name}.jsonl").open("a", encoding="utf-8")
            if file.tell() > sizes.get(name, 0):
                file.truncate(sizes.get(name, 0))
                file.seek(0, os.SEEK_END)  # else ``sync`` tells the old size until the next row

    def write(self, name: str, row: dict[str, Any]) -> None:
        """A row into metrics or timings."""
        if not self.files:
            return
        file = self.files[name]
        file.write(json.dumps({key: _finite(value) for key, value in row.items()}) + "\n")
        file.flush()
        if self.trackers:
            prefix = f"{row['kind']}/" if "kind" in row else ""
            flat = _flat({key: value for key, value in row.items() if key not in ("kind", "step")}, prefix)
            for tracker in self.trackers:
                tracker.log(flat, row["step"])

    def sync(self) -> dict[str, int]:
        """Bytes of each file, all of which are on the disk now."""
        for file in self.files.values():
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self.files.items()}

    def close(self) -> None:
        with _quiet():
            for tracker in self.trackers:
                tracker.finish()
        for file in self.files.values():
            with contextlib.suppress(OSError):  # every row was flushed, and what failed then was raised then
                file.close()


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """What trackers print goes to standard error: standard output is for results."""
    return contextlib.redirect_stdout(sys.stderr)


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is none is written as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            flat[prefix + key] = value
    return flat


def open_tracker(name: str, run: Run, spec: RunSpec) -> Tracker:
    """Raises ValueError with one sentence if the tracker's package is missing."""
    try:
        return TRACKERS[name](run, spec)
    except ImportError as error:
        raise ValueError(
            f"the tracker {name} needs the package {error.name}; install it with pip install 'fairstep[track]'"
        ) from None


class _Wandb:
    def __init__(self, run: Run, spec: RunSpec) -> None:
        import wandb

        config = spec.model_dump(mode="json")
        self.run = wandb.init(
            project="fairstep", id=run.id, name=_name(spec), config=config, resume="allow", dir=run.directory
        )

    def log(self, values: dict[str, float], step: int) -> None:
        self.run.log(values, step=step)

    def finish(self) -> None:
        self.run.finish()


class _Trackio:
    def __init__(self, run: Run, spec: RunSpec) -> None:
        import trackio

        self.trackio = trackio
        trackio.init(
            project="fairstep", name=f"{_name(spec)}-{run.id}", config=spec.model_dump(mode="json"), resume="allow"
        )

    def log(self, values: dict[str, float], step: int) -> None:
        self.trackio.log(values, step=step)

    def finish(self) -> None:
        self.trackio.finish()


class _TensorBoard:
    def __init__(self, run: Run, spec: RunSpec) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run.directory / "tensorboard"))
        self.writer.add_text("spec", spec.to_json())

    def log(self, values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def finish(self) -> None:
        self.writer.close()


def _name(spec: RunSpec) -> str:
    return f"{spec.optimizer.name}-{spec.model.preset or 'model'}-{spec.init_seed}"


TRACKERS: dict[str, Callable[[Run, RunSpec], Tracker]] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "tensorboard": _TensorBoard,
}
