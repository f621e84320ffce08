"""The rate of matrix products on this machine, measured once and kept: utilisation is relative to it."""

from __future__ import annotations

import contextlib
import json
import time

import torch

from fairstep.data import cache_directory
from fairstep.runs import machine, read_json, write_atomic

CPU_SIDE, DEVICE_SIDE = 1024, 8192
"""Sides of the square matrices: large enough for the full rate, small enough to be done in moments."""
SECONDS = 0.3


def matmul_rate(device: torch.device, precision: str) -> float:
    """FLOPs per second of square matrix products in this precision, with the threads that torch uses now.

    The best of several, because whatever disturbs a measurement makes it slower. Kept in the cache directory by
    device, threads, precision and torch's version; delete ``rates.json`` there to measure anew.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine().processor
    threads = 0 if device.type == "cuda" else torch.get_num_threads()
    key = f"{name}, {threads} threads, {precision}, torch {torch.__version__}"
    path = cache_directory() / "rates.json"
    known = read_json(path) or {}
    rate = known.get(key)
    if not isinstance(rate, int | float) or not 0 < rate < 1e20:  # absent, or nothing that was measured
        known[key] = measured_rate(device, precision)
        with contextlib.suppress(OSError):  # without a cache it is measured every time
            write_atomic(path, json.dumps(known, indent=1))
    return float(known[key])


def measured_rate(device: torch.device, precision: str) -> float:
    """``matmul_rate``, measured now."""
    side = DEVICE_SIDE if device.type == "cuda" else CPU_SIDE
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.full((side, side), 0.5, device=device, dtype=dtype)
    out = torch.empty_like(a)
    best, began, count = float("inf"), time.perf_counter(), 0
    while count < 3 or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        torch.matmul(a, a, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
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
