"""What a run costs before it runs: FLOPs, memory by part, time, and each rank's share. Studies belong to ``study``."""

from fairstep.cost.devices import CPU_UTILISATION, Device, device
from fairstep.cost.run_cost import cost

__all__ = ["CPU_UTILISATION", "Device", "cost", "device"]
