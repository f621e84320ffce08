"""The tournament: which runs, in what order, at what cost. It starts runs as commands and reads their directories.

It never calls into the training loop, so any scheduler can carry a trial; statistics belong to analysis.
"""

from fairstep.study.accounts import certificates, differences, ledgers
from fairstep.study.contest import Contest, Contestant
from fairstep.study.entry import entry
from fairstep.study.launcher import Event, Launcher
from fairstep.study.local import Layout, LocalLauncher, layout
from fairstep.study.plan import Plan
from fairstep.study.protocols import PROTOCOLS, Protocol
from fairstep.study.runner import ContestError, Patience, State, carry_out, results_of
from fairstep.study.space import Axis, Configuration, Space
from fairstep.study.workload import TUNABLE, Workload

__all__ = [
    "PROTOCOLS",
    "TUNABLE",
    "Axis",
    "Configuration",
    "Contest",
    "ContestError",
    "Contestant",
    "Event",
    "Launcher",
    "Layout",
    "LocalLauncher",
    "Patience",
    "Plan",
    "Protocol",
    "Space",
    "State",
    "Workload",
    "carry_out",
    "certificates",
    "differences",
    "entry",
    "layout",
    "ledgers",
    "results_of",
]
