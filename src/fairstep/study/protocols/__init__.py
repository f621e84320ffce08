"""Tuning protocols: how the best configuration of a contestant is searched for. One file each.

A protocol of one cell says ``tune``; ``across.py`` runs it in every cell and extends the grids whose end won. A
protocol whose cells depend on one another (W's phases, S's re-tuning for length) says ``search`` itself. No protocol
knows of runs, stores or launchers: it asks for losses (``study/search.py``).
"""

from fairstep.study.protocols.across import OneCell, Protocol, settle

__all__ = ["OneCell", "Protocol", "settle"]
