"""Rates of matrix products as they are kept in the cache's ``rates.json``: names and values, read without torch."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

from fairstep.runs.files import read_json
from fairstep.runs.machine import Machine


def rate_name(device: str, threads: int, precision: str) -> str:
    """Under which a rate is kept. ``threads``: 0 on an accelerator."""
    return f"{device}, {threads} threads, {precision}, torch {_torch()}"


def gain_name(processor: str) -> str:
    """Under which the rate of bf16 over float32 on one thread is kept."""
    return f"{processor}, bf16 over float32, torch {_torch()}"


@functools.cache
def _torch() -> str:
    """Its version, which takes reading through the folder of all packages."""
    return importlib.metadata.version("torch")


def kept_rate(path: Path, name: str) -> float | None:
    """What is kept under a name, None where none was measured or the file is not as this version writes it."""
    rate = (read_json(path) or {}).get(name)
    return float(rate) if isinstance(rate, int | float) and 0 < rate < 1e20 else None


def kept_bf16_gain(path: Path, here: Machine) -> float | None:
    """The rate of bf16 over float32 on one thread of this processor; None where it was not measured.

    It is no quotient of kept rates, which may be of times when other programs had different shares of the processor.
    """
    return kept_rate(path, gain_name(here.processor))
