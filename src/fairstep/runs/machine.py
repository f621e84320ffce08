"""What this machine can do, read without torch: cores, memory, bf16, accelerators."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """``cores`` are those that this process may use (affinity and cgroup quota), ``memory_bytes`` what is free now,
    ``cpu_bf16`` whether the processor claims instructions for bf16."""

    processor: str
    cores: int
    memory_bytes: int
    cpu_bf16: bool
    gpus: int

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def machine() -> Machine:
    """Facts of this machine; what cannot be read counts as absent."""
    info = _read("/proc/cpuinfo")
    flags = next((line.split(":", 1)[1].split() for line in info.splitlines() if line.startswith("flags")), [])
    name = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    gpus = Path("/proc/driver/nvidia/gpus")
    return Machine(
        processor=name or platform.processor() or platform.machine(),
        cores=_cores(),
        memory_bytes=_available_memory(),
        cpu_bf16=bool({"avx512_bf16", "amx_bf16"} & set(flags)),
        gpus=len(list(gpus.iterdir())) if gpus.is_dir() else 0,
    )


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _available_memory() -> int:
    """What is free on the machine, and in the limit of this process's group, if it has one."""
    free = [int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").splitlines() if line.startswith("MemAvail")]
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        cached = [
            line.split()[1] for line in _read("/sys/fs/cgroup/memory.stat").splitlines() if "inactive_file" in line
        ]
        free.append(max(1, int(limit) - int(used) + sum(map(int, cached[:1]))))
    return min(free, default=0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
