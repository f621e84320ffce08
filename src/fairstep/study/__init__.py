"""The tournament: which runs, in which order. It starts runs as commands and reads their directories.

It never calls into the training loop, so any scheduler can carry a trial. Statistics belong to ``analysis``, and what a
run costs to ``cost``. Floors of its rooms, lowest first: ``protocols`` and ``launchers``; ``published_runs`` and
``workload``; ``tournament``; ``file`` and ``forecast``.
"""

from fairstep.study.file.published_spaces import contestant_from_spec
from fairstep.study.launchers.base import Event, Launcher
from fairstep.study.launchers.local import Layout, LocalLauncher, layout
from fairstep.study.protocols import PROTOCOLS, Protocol
from fairstep.study.protocols.space import Axis, Configuration, Space
from fairstep.study.tournament.contest import Contest, Contestant
from fairstep.study.tournament.ledgers import certificates, differences, ledgers
from fairstep.study.tournament.runner import ContestError, Patience, State, carry_out, results_of, with_designs
from fairstep.study.tournament.supported import unsupported
from fairstep.study.tournament.trials import Plan
from fairstep.study.workload import TUNABLE, Workload

entry = contestant_from_spec
"""Its earlier name."""

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
    "contestant_from_spec",
    "differences",
    "entry",
    "layout",
    "ledgers",
    "results_of",
    "unsupported",
    "with_designs",
]
