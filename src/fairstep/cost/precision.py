"""What precision "auto" is on this machine: bf16 where its hardware multiplies it faster than float32.

An accelerator does. A processor without instructions for bf16 emulates it and is several times slower at it. One that
has them (``avx512_bf16``, ``amx_bf16``) is timed once, because some split every bf16 instruction into slow parts: a
short process measures both rates on one thread and keeps them in the cache, and this process stays without torch.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Literal

from fairstep.data import cache_directory
from fairstep.runs import Machine, machine
from fairstep.runs.rates import kept_bf16_gain

SECONDS = 60
"""A measurement that takes longer is given up, and the processor is believed."""


def auto_precision(here: Machine | None = None) -> Literal["bf16", "float32"]:
    """The precision of a run for which none was asked. ``here``: this machine."""
    here = here or machine()
    if here.gpus:
        return "bf16"
    if not here.cpu_bf16:
        return "float32"
    path = cache_directory() / "rates.json"
    gain = kept_bf16_gain(path, here)
    if gain is None:
        gain = _measured_gain()
    return "bf16" if gain is None or gain > 1 else "float32"


@functools.cache
def _measured_gain() -> float | None:
    """The rate of bf16 over float32, measured now; None if it cannot be. Once a process, should the cache not keep it.

    ``fairstep.train.rate`` is started as a command, as launchers start ``fairstep.train``.
    """
    command = [sys.executable, "-m", "fairstep.train.rate"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        return float(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
