"""Whose code a run would import: nothing of a stranger's store is imported unless that was asked for."""

from __future__ import annotations

from fairstep.optim.catalogue.registry import is_foreign
from fairstep.runs import ForeignModelSpec, RunSpec


def code_of_others(spec: RunSpec) -> str:
    """What of a run is other people's code, in words; empty if nothing is."""
    if is_foreign(spec.optimizer.name):
        return f"{spec.optimizer.name}, another package's optimizer"
    if isinstance(spec.model, ForeignModelSpec) and spec.model.factory:
        return f"{spec.model.factory}, somebody's own model"
    return ""
