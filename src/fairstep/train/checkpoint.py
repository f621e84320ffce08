"""Checkpoints: everything that a run needs to go on to the bit, whole or not there at all, and only the newest few.

``checkpoints/step-00000120.pt`` is a torch file of tensors and plain values, read with ``weights_only``. It is written
beside its place and renamed, so a kill leaves the old files; every byte has a checksum (the file is a zip archive), so
damage is noticed, and then the checkpoint before it is used.

Where ranks share the optimizer's work, each writes its part of the state beside it, ``step-00000120.2of4.pt``: no rank
sends its state to another or holds more than its own. The parts are pieces of parameters by name, so that any number of
ranks, or one process, puts together what it needs (``optim.pieces``). A checkpoint that lacks a part is damaged.
"""

from __future__ import annotations

import os
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairstep.train.parallel import ALONE, World

FORMAT = 1
"""Version of a checkpoint; a reader refuses a higher one instead of guessing."""


class Checkpoints:
    """The checkpoints of one run. ``save`` raises OSError when a file cannot be written; the older ones remain."""

    def __init__(self, folder: Path, keep: int, asynchronous: bool = False, world: World = ALONE) -> None:
        self.folder, self.keep, self.asynchronous, self.world = folder, keep, asynchronous, world
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-????????.pt"), reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after ``step`` steps. Asynchronous: copy it now, write it later, and raise then.

        Of several ranks all call it: the first has the whole state or its part of it, the others their part or nothing.
        """
        self.wait()
        if not self.asynchronous:
            if self.world.first:
                self._after_all(lambda: None)
                self._write(step, state)
            else:
                self._after_all(lambda: self._write(step, state))
            return
        self._writer = threading.Thread(target=self._write_later, args=(step, _copied(state)))
        self._writer.start()

    def join(self) -> None:
        """Until nothing is being written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def wait(self) -> None:
        """Until the last checkpoint is on the disk, on all ranks, which all call it. Raises what went wrong with it."""
        self.join()
        error, self._error = self._error, None
        if self.asynchronous:
            self._tell(error)

    def clear(self) -> None:
        """A run with a result needs them no more."""
        self.join()
        for path in (*self.folder.glob("*.unfinished"), *self.folder.glob("step-*.pt")):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _write_later(self, step: int, state: dict[str, Any]) -> None:
        try:
            self._write(step, state)
        except BaseException as error:
            self._error = error

    def _after_all(self, write: Callable[[], None]) -> None:
        """Have all ranks write their parts; raises OSError on every rank if one could not."""
        error: OSError | None = None
        try:
            write()
        except OSError as caught:
            error = caught
        self._tell(error)

    def _tell(self, error: BaseException | None) -> None:
        """Raise this rank's error here, and on every other rank an OSError that says which rank had one."""
        said = self.world.gather(error and (getattr(error, "errno", 0), getattr(error, "strerror", "") or str(error)))
        if error:
            raise error
        for rank, reason in enumerate(said):
            if reason:
                raise OSError(reason[0], f"process {rank} could not write its part of the checkpoint: {reason[1]}")

    def _write(self, step: int, state: dict[str, Any]) -> None:
        if "optimizer" not in state:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._leftovers():
            path.unlink(missing_ok=True)
        place = self.folder / f"step-{step:08d}{self._suffix()}"
        temporary = place.with_suffix(".unfinished")
        try:
            with temporary.open("wb") as file:
                torch.save({"format": FORMAT, "step": step, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        except RuntimeError as error:  # torch's own writer hides the system's error behind one of its own
            temporary.unlink(missing_ok=True)
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if self.world.first:
            # What is written in a thread may be whole on this rank and not yet on others; the one before it is.
            unsure = self.asynchronous and self.world.size > 1
            for path in self.paths()[self.keep + unsure :]:
                for part in (path, *self.folder.glob(f"{path.stem}.*of*.pt")):
                    part.unlink(missing_ok=True)

    def _suffix(self) -> str:
        return ".pt" if self.world.first else f".{self.world.rank}of{self.world.size}.pt"

    def _leftovers(self) -> list[Path]:
        """Of this rank; others may be writing."""
        return [*self.folder.glob(f"step-????????{self._suffix()}".removesuffix(".pt") + ".unfinished")]


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU, with the parts of other ranks as the optimizer's "parts".

    Raises ValueError with one sentence if a file is damaged, foreign or missing. Parts are read when they are used.
    """
    state = _read_file(path)
    count = state.get("parts", 1)
    if count > 1:
        others = [_read_file(path.with_name(f"{path.stem}.{rank}of{count}.pt")) for rank in range(1, count)]
        own = state["optimizer"]
        state["optimizer"] = {k: v for k, v in own.items() if k not in ("state", "pieces")}
        state["optimizer"]["parts"] = [own, *(other["optimizer"] for other in others)]
    return state


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{path.name} is damaged (checksum of {damaged})")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    except (zipfile.BadZipFile, EOFError, pickle.UnpicklingError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path.name} cannot be read ({str(error).splitlines()[0][:200]})") from None
    if not isinstance(state, dict) or "format" not in state:
        raise ValueError(f"{path.name} is not a checkpoint of fairstep")
    if state["format"] > FORMAT:
        raise ValueError(f"{path.name} has format {state['format']}; this version reads up to {FORMAT}")
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """torch's global generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights in float32 as safetensors, whole or not at all. Weights that share memory are written once."""
    from safetensors.torch import save_file

    unique = {tensor.data_ptr(): name for name, tensor in reversed(weights.items())}
    kept = {name: weights[name].detach().to("cpu", torch.float32).contiguous() for name in weights}
    kept = {name: kept[name] for name in weights if unique[weights[name].data_ptr()] == name}
    temporary = path.with_suffix(".unfinished")
    try:
        save_file(kept, temporary, metadata={"format": "pt"})
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _copied(value: Any) -> Any:
    """The value with every tensor copied to the CPU's memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
