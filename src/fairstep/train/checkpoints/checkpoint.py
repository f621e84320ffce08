"""Checkpoints: everything that a run needs to go on to the bit, whole or not there at all, and only the newest few.

``checkpoints/step-00000120/`` is a folder in the format of torch.distributed.checkpoint (``files``), the same for one
process and for many. It holds tensors by name. Each rank writes its part of them, and any number of ranks can read
them. A kill while a checkpoint is written leaves the older ones. Damage is noticed by checksum, and then the previous
checkpoint is used.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fairstep.optim.sharding.state_shards import StateShard
from fairstep.train.ranks.world import ALONE, TIMEOUT, World
from fairstep.train.weights import write_safetensors


class UnreadableCheckpoint(ValueError):
    """A checkpoint that is whole but could not be taken up. Model and optimizer may be half of it now."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be read ({reason})")
        self.name = name


class Checkpoints:
    """The checkpoints of one run. ``save`` raises OSError when a file cannot be written; the older ones remain.

    Raises ValueError for a folder that is a link: what is in it would be deleted when it is of no more use.
    """

    def __init__(self, folder: Path, keep: int, asynchronous: bool = False, world: World = ALONE) -> None:
        if folder.is_symlink():
            raise ValueError(f"{folder} is a link, and a run keeps its checkpoints in a folder of its own: remove it")
        self.folder, self.keep, self.asynchronous, self.world = folder, keep, asynchronous, world
        # Its own, because a thread may write while the model is trained, and on the CPU, whatever the model is on.
        self.group = dist.new_group(backend="gloo", timeout=TIMEOUT) if world.size > 1 else None
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-????????"), reverse=True)

    def save(self, step: int, state: dict[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the state after ``step`` steps. Asynchronous: copy it now, write it later, and raise then.

        All ranks call it, each with its tensors: whole tensors, DTensors, or ``StateShard``s. A whole tensor that
        several ranks have is written once. ``facts``: JSON values; the first rank's are written.
        """
        # Loaded by the thread that trains: what a second thread loads is seen half loaded by torch and by us.
        from fairstep.train.checkpoints import files

        self.wait()
        facts = {"step": step, "processes": self.world.size, **facts}
        if not self.asynchronous:
            self._write(files.write, step, state, facts)
            return
        self._writer = threading.Thread(target=self._write_later, args=(files.write, step, _copied(state), facts))
        self._writer.start()

    def join(self) -> None:
        """Until nothing is being written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def wait(self) -> None:
        """Until the last checkpoint is on the disk. Raises what went wrong with it, on every rank."""
        self.join()
        error, self._error = self._error, None
        if error:
            raise error

    def newest(
        self, accept: Callable[[dict[str, Any]], None], notes: list[str], refused: Mapping[str, str] = {}
    ) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint that is whole, with its facts, which all ranks look for together.

        ``accept`` is asked by the first rank and raises ValueError for one that is not to be used; what is wrong with
        newer ones is added to ``notes``. ``refused``: what is wrong with those that are known to be of no use, by name.
        """
        if self.world.first:
            for path in self.folder.glob("*.unfinished"):
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
        for path in self.world.agree(self.paths()):
            from fairstep.train.checkpoints import files

            problem, facts = "", {}
            try:
                if path.name in refused:
                    raise ValueError(refused[path.name])
                if path.is_symlink():
                    raise ValueError(f"{path.name} is a link and not used")
                facts = files.facts_of(path)
                files.check(path, facts, self.world.rank, self.world.size)
                if self.world.first:
                    self._ask(accept, path, facts)
            except ValueError as error:
                problem = str(error)
            problems = [said for said in self.world.gather(problem) if said]
            if not problems:
                return path, facts
            notes.append(problems[0])
        return None

    def load(self, path: Path, allocate: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        """The saved state, read into what ``allocate`` gives this rank for the description of the files' content."""
        from fairstep.train.checkpoints import files

        state = allocate(files.described(path))
        files.fill(path, state, self.group)
        return state

    def take_up(
        self,
        path: Path,
        allocate: Callable[[dict[str, Any]], dict[str, Any]],
        use: Callable[[dict[str, Any]], None],
    ) -> None:
        """``load`` a checkpoint and ``use`` its state. Raises UnreadableCheckpoint, on every rank alike, if that cannot
        be done on one; OSError and MemoryError say nothing against the checkpoint and are raised as they are."""
        problem = ""
        try:
            use(self.load(path, allocate))
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        problems = [said for said in self.world.gather(problem) if said]
        if problems:
            raise UnreadableCheckpoint(path.name, problems[0])

    def clear(self) -> None:
        """A run with a result needs them no more."""
        self.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _ask(accept: Callable[[dict[str, Any]], None], path: Path, facts: dict[str, Any]) -> None:
        try:
            accept(facts)
        except ValueError as error:
            raise ValueError(f"{path.name} cannot be used: {error}") from None

    def _write_later(self, *what: Any) -> None:
        try:
            self._write(*what)
        except BaseException as error:
            self._error = error

    def _write(self, write: Callable[..., None], step: int, state: dict[str, Any], facts: dict[str, Any]) -> None:
        place = self.folder / f"step-{step:08d}"
        write(place, state, facts, self.group)
        if self.world.first:
            kept = [path for path in self.paths() if path <= place][: self.keep]  # newer ones could not be used
            for path in self.paths():
                if path not in kept:
                    shutil.rmtree(path, ignore_errors=True)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights in float32 as safetensors. Weights that share memory are written once. Raises OSError."""
    unique = {tensor.data_ptr(): name for name, tensor in reversed(weights.items())}
    kept = {name: weights[name].detach().to("cpu", torch.float32).contiguous() for name in weights}
    write_safetensors(path, {name: kept[name] for name in weights if unique[weights[name].data_ptr()] == name})


def _copied(value: Any) -> Any:
    """The value with every tensor copied to the CPU's memory."""
    if isinstance(value, StateShard):
        return value.copied()
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_copied, value)] if isinstance(value, list) else (*map(_copied, value),)
    return value
