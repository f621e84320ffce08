"""Whether a run fits into this machine."""

from __future__ import annotations

from fairstep.cost import cost
from fairstep.cost.devices import device_here
from fairstep.runs import RunSpec, machine


def check_memory(spec: RunSpec, processes: int = 1) -> None:
    """Raises ValueError for a run that does not fit into this machine: the kernel would end it without a word."""
    here = machine()
    if here.device != "cpu" or not here.memory_bytes or spec.batch_sequences % processes:
        return
    needed = processes * cost(spec, device_here(), processes, spec.execution.parallel).memory_bytes
    if needed > here.memory_bytes:
        micro = spec.execution.micro_batch_sequences or spec.batch_sequences // processes
        remedy = f"--micro-batch-sequences below {micro}, or a smaller --model" if micro > 1 else "a smaller --model"
        raise ValueError(
            f"{spec.optimizer.name} at this size needs {needed / 1e9:.1f} GB of memory and this machine has "
            f"{here.memory_bytes / 1e9:.1f} GB free; choose {remedy}"
        )
