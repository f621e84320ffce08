"""Transfer: by which rule a contestant's hyperparameters, which are a base cell's, become another cell's.

    mup       by width and depth, with scales of the model (arXiv 2512.05620)     adamw, muon, d-muon, soap
    hyperp    by depth, batch and length (arXiv 2603.28743)                       optimizers with fixed norms
    law       the learning rate by stated powers of length, width and depth       any with a learning rate

A rule is a frozen dataclass with ``name``, ``model`` and ``hyperparameters`` (``Transfer``).
"""

from fairstep.study.transfer.length import HyperP, Law
from fairstep.study.transfer.mup import MuP

Transfer = MuP | HyperP | Law

__all__ = ["HyperP", "Law", "MuP", "Transfer"]
