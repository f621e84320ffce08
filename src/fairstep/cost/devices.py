"""Accelerators by name: a plan may ask about one that is not here."""

from __future__ import annotations

from dataclasses import dataclass

from fairstep.optim.spec import did_you_mean
from fairstep.runs import machine


@dataclass(frozen=True)
class Device:
    """``flops``: peak FLOPs a second of dense bf16 matrix products as the maker states it; for the machine at hand, as
    measured in the run's precision. ``memory_bytes``: of one device (0: not known). ``utilisation``: share of that
    peak that a training step is expected to reach, an assumption that a plan prints."""

    name: str
    flops: float
    memory_bytes: int
    utilisation: float
    source: str


CPU_UTILISATION = 0.6
"""Share of its matrix-product rate that a step is expected to reach on a processor: 0.64 was measured at 852k with all
cores (benchmarks/train_throughput.py, docs/log.md); smaller models reach less."""

_DATA_SHEET = "data sheet, dense bf16"

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("a100-40gb", 312e12, 40 * 10**9, 0.4, f"NVIDIA A100 {_DATA_SHEET}"),
        Device("a100-80gb", 312e12, 80 * 10**9, 0.4, f"NVIDIA A100 {_DATA_SHEET}"),
        Device("h100", 989e12, 80 * 10**9, 0.4, f"NVIDIA H100 SXM {_DATA_SHEET}"),
        Device("h200", 989e12, 141 * 10**9, 0.4, f"NVIDIA H200 SXM {_DATA_SHEET}"),
        Device("gh200", 989e12, 96 * 10**9, 0.4, f"NVIDIA GH200 {_DATA_SHEET}"),
        Device("b200", 2250e12, 180 * 10**9, 0.4, f"NVIDIA B200 {_DATA_SHEET}"),
        Device("mi300x", 1307e12, 192 * 10**9, 0.35, f"AMD MI300X {_DATA_SHEET}"),
        Device("rtx4090", 165e12, 24 * 10**9, 0.4, f"NVIDIA RTX 4090 {_DATA_SHEET}, float32 accumulation"),
        Device("tpu-v5e", 197e12, 16 * 10**9, 0.4, f"Google TPU v5e {_DATA_SHEET}"),
    )
}


def device_here() -> Device:
    """The machine at hand with its memory. Its rate is not known here (1 FLOP a second)."""
    here = machine()
    return Device("cpu" if here.device == "cpu" else "this", 1.0, here.memory_bytes, CPU_UTILISATION, "this machine")


def device(name: str) -> Device:
    """Raises ValueError with the nearest names."""
    if name in DEVICES:
        return DEVICES[name]
    raise ValueError(
        f"unknown device {name!r}{did_you_mean(name, DEVICES)}; the devices are {', '.join(DEVICES)}, and cpu for this "
        "machine"
    )
