"""The rate of matrix products on this machine, measured once and kept: utilisation is relative to it."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import torch

from fairstep.data import cache_directory
from fairstep.runs import machine, read_json, write_atomic
from fairstep.runs.rates import gain_name, kept_rate, rate_name

CPU_SIDE, DEVICE_SIDE = 1024, 8192
"""Sides of the square matrices: large enough for the full rate, small enough to be done in moments."""
SECONDS = 0.3


def matmul_rate(device: torch.device, precision: str) -> float:
    """FLOPs per second of square matrix products in this precision, with the threads that torch uses now.

    The best of several, because whatever disturbs a measurement makes it slower. Kept in the cache directory by
    device, threads, precision and torch's version; delete ``rates.json`` there to measure anew.
    """
    path, name = rates_file(), torch.cuda.get_device_name(device) if device.type == "cuda" else machine().processor
    name = rate_name(name, 0 if device.type == "cuda" else torch.get_num_threads(), precision)
    rate = kept_rate(path, name)
    if rate is None:
        rate = measured_rate(device, precision)
        _keep(path, name, rate)
    return rate


def bf16_gain() -> float:
    """How many times the rate of float32 this processor reaches in bf16 on one thread, measured now and kept.

    Both are measured in turns, and the fastest of each counts, so that other programs disturb both alike.
    """
    torch.set_num_threads(1)
    turns = [(precision, measured_rate(torch.device("cpu"), precision)) for precision in ("bf16", "float32") * 4]
    bf16, float32 = (max(rate for one, rate in turns if one == precision) for precision in ("bf16", "float32"))
    _keep(rates_file(), gain_name(machine().processor), bf16 / float32)
    return bf16 / float32


def _keep(path: Path, name: str, value: float) -> None:
    with contextlib.suppress(OSError):  # without a cache it is measured every time
        write_atomic(path, json.dumps((read_json(path) or {}) | {name: value}, indent=1))


def rates_file() -> Path:
    return cache_directory() / "rates.json"


def measured_rate(device: torch.device, precision: str) -> float:
    """``matmul_rate``, measured now.

    On one thread of a processor the clock is the thread's own, which stands still while another program has the core:
    precisions must not be told apart by who disturbed them. One product that takes longer than ``SECONDS``, as
    bf16 that is emulated does, is enough.
    """
    side = DEVICE_SIDE if device.type == "cuda" else CPU_SIDE
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    a = torch.full((side, side), 0.5, device=device, dtype=dtype)
    out = torch.empty_like(a)
    best, began, count = float("inf"), time.perf_counter(), 0
    while (count < 3 and not SECONDS < best < float("inf")) or time.perf_counter() - began < SECONDS:
        start = clock()
        torch.matmul(a, a, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - start)
        count += 1
    return 2 * side**3 / best


def this_device(kind: str, threads: int, precision: str) -> tuple[str, float, int]:
    """(name, rate, bytes of memory; 0 on a CPU) of this machine's first device of a kind, for whoever plans a run."""
    place = torch.device(kind)
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(place)
        return properties.name, matmul_rate(place, precision), properties.total_memory
    torch.set_num_threads(threads)
    return kind, matmul_rate(place, precision), 0


if __name__ == "__main__":
    print(bf16_gain())  # for fairstep.cost.precision
