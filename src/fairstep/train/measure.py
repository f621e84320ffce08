"""What is measured on every run: where the time of a step goes, peak memory, and how large weights and updates are.

Times are added up on every step and written at the logged steps. Sizes of weights and updates are measured at the
logged steps only. All of it costs less than 2 % of a step.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import resource
import statistics
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim.engine.said_roles import Roles


class Stopwatch:
    """Seconds by part of a step, added up until they are taken."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = 0
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        """A time at which all work issued so far is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def add(self, **seconds: float) -> None:
        """The parts of one more step."""
        self.steps += 1
        for part, value in seconds.items():
            self.seconds[part] += value

    def take(self) -> dict[str, float]:
        """Mean seconds of a step by part, as <part>_seconds, since they were last taken."""
        means = {f"{part}_seconds": value / self.steps for part, value in self.seconds.items()}
        self.steps = 0
        self.seconds.clear()
        return means


class Sizes:
    """Root mean squares of weights and of one step's updates, by role; with ``angles`` also how far weights turn.

    ``before`` an optimizer step remembers the weights (one copy of the model), ``after`` it compares.
    """

    def __init__(self, model: nn.Module, angles: bool, roles: Roles = None) -> None:
        self.angles = angles
        assigned = optim.infer_roles(model, roles)
        named = dict(model.named_parameters())
        self.roles = {
            role: [named[n] for n, r in assigned.items() if r == role] for role in dict.fromkeys(assigned.values())
        }
        self.parameters: list[Tensor] = [p for group in self.roles.values() for p in group]
        self.divided = hasattr(self.parameters[0], "to_local")  # a DTensor: each rank measures its shards
        self._old: list[Tensor] = []

    def _own(self) -> list[Tensor]:
        return [p.to_local() for p in self.parameters] if self.divided else self.parameters  # type: ignore[attr-defined]

    @torch.no_grad()
    def before(self) -> None:
        self._old = [p.clone() for p in self._own()]

    @torch.no_grad()
    def after(self) -> dict[str, dict[str, float]]:
        """weight_rms, update_rms and, in radians, the mean angle between the old and the new tensor, and the mean over
        the rows of matrices (S's dynamics: layers and neurons)."""
        old, self._old = self._old, []
        own = self._own()
        updates = [new - previous for new, previous in zip(own, old, strict=True)]
        squares = torch.stack([*torch._foreach_norm(own), *torch._foreach_norm(updates)]).square()
        if self.divided:
            dist.all_reduce(squares)
        norms = squares.tolist()
        row: dict[str, dict[str, float]] = {"weight_rms": {}, "update_rms": {}}
        first = 0
        for role, group in self.roles.items():
            last, count = first + len(group), sum(p.numel() for p in group)
            row["weight_rms"][role] = (sum(norms[first:last]) / count) ** 0.5
            row["update_rms"][role] = (sum(norms[len(old) + first : len(old) + last]) / count) ** 0.5
            if self.angles:
                pairs = list(zip(old[first:last], group, strict=True))
                row.setdefault("angle", {})[role] = statistics.fmean(_angle(a.flatten(), b.flatten()) for a, b in pairs)
                if group[0].ndim > 1:
                    row.setdefault("row_angle", {})[role] = statistics.fmean(_angle(a, b) for a, b in pairs)
            first = last
        return row


def _angle(a: Tensor, b: Tensor) -> float:
    """Mean angle between the last dimensions of a and b, through the chord, which is exact for small angles too."""
    a, b = (x.double() / x.double().norm(dim=-1, keepdim=True).clamp_min(1e-300) for x in (a, b))
    return (2 * torch.asin(((a - b).norm(dim=-1) / 2).clamp_max(1))).mean().item()


class _Sampler:
    """The most resident memory seen at looks 10 ms apart, for a kernel that does not forget its high-water mark."""

    EVERY = 0.01

    def __init__(self) -> None:
        self.most = 0
        self.over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def look(self) -> int:
        self.most = max(self.most, _status("VmRSS"))
        return self.most

    def _watch(self) -> None:
        while not self.over.wait(self.EVERY):
            self.look()


_sampler: _Sampler | None = None
RESET_MARGIN = 16 * 2**20
"""Bytes by which the high-water mark may be above the resident memory after a reset that took effect."""


def reset_peak_memory(device: torch.device) -> int:
    """Begin to measure the peak anew; returns the bytes in use now."""
    global _sampler
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if _sampler is not None:
        _sampler.over.set()
    _return_freed_memory()
    _forget_peak()
    resident = _status("VmRSS")
    _sampler = _Sampler() if _status("VmHWM") > resident + RESET_MARGIN else None
    return resident


class Predecessors:
    """The runs that this process carried out before: how many, and whether they left memory behind."""

    LEFT = 64 * 2**20
    """Bytes that may lie about without being counted as a run's: libraries and kernels that a first run loads."""

    runs: ClassVar[set[str]] = set()
    peak: ClassVar[int] = 0
    idle: ClassVar[int] = 0
    """Resident bytes before the first of them."""

    def __init__(self, run: str) -> None:
        if type(self).runs:
            gc.collect()  # half a second where torch's compiler has worked: not for the first run, which has nothing
        _return_freed_memory()
        resident = _status("VmRSS")
        cls = type(self)
        cls.idle = cls.idle or resident
        self.count = len(cls.runs - {run})
        self.left = resident - cls.idle > self.LEFT
        cls.runs.add(run)

    def own_peak(self, peak: int) -> int:
        """A run's peak; 0 if it cannot be told from what a larger run before it has left behind."""
        larger = type(self).peak > peak
        type(self).peak = max(type(self).peak, peak)
        return 0 if larger and self.left else peak


def machine_load() -> dict[str, float]:
    """``load``: programs that ran or waited to run on this machine, its mean over the last minute; {} where no system
    says so."""
    return {"load": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak since the reset: allocated on an accelerator, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _sampler is not None:
        return _sampler.look()
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _return_freed_memory() -> None:
    """Hand the blocks that an earlier run freed back to the kernel: what is resident then belongs to this run."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    """Ask the kernel to begin its high-water mark anew. Kernels of containers may not do it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    with contextlib.suppress(OSError):
        if found := re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8")):
            return int(found[1]) * 1024
    return 0


def median(rows: list[dict[str, Any]], key: str) -> float:
    """Median of a column of timings; 0 when there is none."""
    return statistics.median([row[key] for row in rows if key in row] or [0.0])
