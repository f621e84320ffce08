"""What a run writes while it goes on: two JSONL files, and trackers where asked for.

``metrics.jsonl`` holds what the spec decides (losses, norms). It is the same to the byte for an interrupted run and an
undisturbed one. ``timings.jsonl`` holds what this machine took. Trackers are sent both.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from fairstep.runs import Run, RunSpec, open_own, to_disk

FILES = ("metrics", "timings")


class Tracker(Protocol):
    """Where else the numbers go. ``values`` are flat, with names such as update_rms/matrix."""

    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class Recorder:
    """The files of a run, and its trackers. ``rewind`` first, then write; without it nothing is written.

    ``durable``: whether the file system can be asked to have everything on the disk, as far as is known. Raises OSError
    as the system gives it (full disk).
    """

    def __init__(self, run: Run, spec: RunSpec, active: bool = True) -> None:
        self.run = run
        self.files: dict[str, IO[str]] = {}
        self.sums = {name: hashlib.sha256() for name in FILES}
        self.durable = True
        self.trackers: list[Tracker] = []
        if active:
            with _quiet():
                self.trackers = [open_tracker(name, run, spec) for name in spec.execution.trackers]

    def rewind(self, sizes: Mapping[str, int], digests: Mapping[str, str] | None = None) -> None:
        """Open the files and cut them back to the bytes that they had when a checkpoint was made (none: from nothing).

        ``digests``: SHA-256 of these bytes, as far as the checkpoint has them. Raises ValueError if a file is shorter
        or has another content, which says that the checkpoint is not of these files.
        """
        sums = {}
        for name in FILES:
            path, size = self.run.directory / f"{name}.jsonl", sizes.get(name, 0)
            content = _read(path, size)
            if len(content) < size:
                raise ValueError(f"{path.name} is shorter than it was")
            sums[name] = hashlib.sha256(content)
            if digests and digests.get(name) != sums[name].hexdigest():
                raise ValueError(f"{path.name} has another content than it had")
        self.sums = sums
        for name in FILES:
            if name not in self.files:
                self.files[name] = open_own(self.run.directory / f"{name}.jsonl")
            file = self.files[name]
            if file.tell() > sizes.get(name, 0):
                file.truncate(sizes.get(name, 0))
                file.seek(0, os.SEEK_END)  # else ``sync`` tells the old size until the next row

    def write(self, name: str, row: dict[str, Any]) -> None:
        """A row into metrics or timings."""
        if not self.files:
            return
        line = json.dumps({key: _finite(value) for key, value in row.items()}) + "\n"
        self.files[name].write(line)
        self.files[name].flush()
        self.sums[name].update(line.encode())
        if self.trackers:
            prefix = f"{row['kind']}/" if "kind" in row else ""
            flat = _flat({key: value for key, value in row.items() if key not in ("kind", "step")}, prefix)
            for tracker in self.trackers:
                tracker.log(flat, step=row["step"])

    def sync(self) -> dict[str, int]:
        """Bytes of each file, all of which are on the disk now."""
        for file in self.files.values():
            self.durable &= to_disk(file)
        return {name: file.tell() for name, file in self.files.items()}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file so far."""
        return {name: self.sums[name].hexdigest() for name in self.files}

    def close(self) -> None:
        with _quiet():
            for tracker in self.trackers:
                tracker.finish()
        for file in self.files.values():
            with contextlib.suppress(OSError):  # every row was flushed, and what failed then was raised then
                file.close()


def _read(path: Path, size: int) -> bytes:
    """The first bytes of a file, as many as there are."""
    if not size or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(size)


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


def _wandb(run: Run, spec: RunSpec) -> Tracker:
    import wandb

    config = spec.model_dump(mode="json")
    tracker: Tracker = wandb.init(
        project="fairstep", id=run.id, name=_name(spec), config=config, resume="allow", dir=run.directory
    )
    return tracker


def _trackio(run: Run, spec: RunSpec) -> Tracker:
    import trackio

    config = spec.model_dump(mode="json")
    trackio.init(project="fairstep", name=f"{_name(spec)}-{run.id}", config=config, resume="allow")
    tracker: Tracker = trackio
    return tracker


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
    "wandb": _wandb,
    "trackio": _trackio,
    "tensorboard": _TensorBoard,
}
