"""The machine as one run sees it: threads, determinism, autocast, and the record of all that."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from contextlib import AbstractContextManager
from typing import Any

import torch

import fairstep
from fairstep.runs import RunSpec, machine
from fairstep.runs.rates import kept_bf16_gain
from fairstep.train.ranks.world import ALONE, World
from fairstep.train.rate import rates_file


def prepare_process(spec: RunSpec, world: World = ALONE) -> torch.device:
    """Pin threads and ask for deterministic kernels. Call before the model is built.

    Deterministic algorithms matter on a CPU too: a compiled embedding gradient otherwise adds in thread order.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _keep_freed_memory()
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world.size > 1 else 1
    torch.set_num_threads(max(1, (spec.execution.threads or machine().cores) // neighbours))
    if spec.execution.compile:
        torch.use_deterministic_algorithms(True)
    else:  # the same, but for loading torch's compiler to tell it, which takes seconds
        torch.set_deterministic_debug_mode("error")
    # The aid that comes with it, filling new memory with NaN, costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("high" if spec.precision == "bf16" else "highest")
    return world.device(spec.execution.device)


@functools.cache
def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks instead of returning them to the kernel and faulting them in again.

    A step frees and allocates the same megabytes every time; this saves about a tenth of a small model's step.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names of <malloc.h>
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 1 << 30)
        mallopt(top_pad, 1 << 26)
        mallopt(mmap_threshold, 1 << 30)


def autocast(spec: RunSpec, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 arithmetic with float32 weights and optimizer state, or plain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=spec.precision == "bf16")


def environment(spec: RunSpec, device: torch.device, compiled: bool) -> dict[str, Any]:
    """What a reader needs to explain a difference between two machines: versions, processor, threads, compilation."""
    here = machine()
    return {
        "fairstep": fairstep.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": here.processor,
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": spec.precision,
        "bf16_over_float32": kept_bf16_gain(rates_file(), here) if device.type == "cpu" else None,
        "compiled": compiled,
        "data_source": list(spec.data.source),
    }


def out_of_memory(error: Exception, spec: RunSpec) -> str | None:
    """A sentence for an error that says that memory ran out, of the machine or of the accelerator; else None."""
    text = str(error)
    words = "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and words)):
        return None
    micro = spec.execution.micro_batch_sequences or spec.batch_sequences
    advice = f"micro_batch_sequences below {micro}" if micro > 1 else "a smaller model or a shorter context"
    reason = f" ({text.strip().splitlines()[0][:200]})" if text.strip() else ""
    return f"out of memory on {spec.execution.device}; try {advice}, or fewer runs at once{reason}"
