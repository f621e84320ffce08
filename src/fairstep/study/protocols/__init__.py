"""Tuning protocols: how the best configuration of a contestant is searched for. One file each.

A protocol of one cell says ``tune``; ``one_cell.py`` runs it in every cell and extends the grids whose end won. A
protocol whose cells depend on one another (W's phases, S's re-tuning for length) says ``search`` itself. No protocol
knows of runs, stores or launchers: it asks for losses (``search.py``).
"""

from fairstep.study.protocols.coordinate_descent import Descent
from fairstep.study.protocols.grid import Grid
from fairstep.study.protocols.one_cell import OneCell, Protocol, settle
from fairstep.study.protocols.sampling import Random
from fairstep.study.protocols.semenov import Semenov
from fairstep.study.protocols.star_search import Star
from fairstep.study.protocols.thrifty import Thrifty
from fairstep.study.protocols.tpe import TPE
from fairstep.study.protocols.wen import Wen

PROTOCOLS: dict[str, type] = {
    "grid": Grid,
    "random": Random,
    "star": Star,
    "descent": Descent,
    "tpe": TPE,
    "wen": Wen,
    "semenov": Semenov,
    "thrifty": Thrifty,
}
"""By the name that a study file uses; a protocol's parameters are the fields of its class."""

__all__ = [
    "PROTOCOLS",
    "TPE",
    "Descent",
    "Grid",
    "OneCell",
    "Protocol",
    "Random",
    "Semenov",
    "Star",
    "Thrifty",
    "Wen",
    "settle",
]
