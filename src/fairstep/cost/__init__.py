"""What a run costs before it runs: FLOPs, memory by part, time, and each rank's share. Studies belong to ``study``."""

from fairstep.cost.devices import CPU_UTILISATION, DEVICES, Device, device
from fairstep.cost.pace import Pace
from fairstep.cost.rank_shares import RankShares, rank_shares
from fairstep.cost.run_cost import Cost, Memory, cost

__all__ = [
    "CPU_UTILISATION",
    "DEVICES",
    "Cost",
    "Device",
    "Memory",
    "Pace",
    "RankShares",
    "cost",
    "device",
    "rank_shares",
]
