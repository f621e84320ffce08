"""Contests that share runs, as one: evidence counts once, however many ledgers name it.

Two ledgers are of one cell if workload, baseline and the baseline's final configuration agree. A contestant of both
with one configuration is united, each run once. A contestant with another configuration is other evidence: it gets a
cell of its own beside the same baseline. The ledger with the most pairs gives a cell its name and its design.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fairstep.analysis.trials import Row, Trials


@dataclass
class _United:
    """A cell in the making. ``configurations``: contestant -> its final hyperparameters, empty without a final."""

    first: Trials
    configurations: dict[str, frozenset[str]] = field(default_factory=dict)
    rows: dict[tuple[str, str, str], Row] = field(default_factory=dict)

    def takes(self, name: str, configuration: frozenset[str]) -> bool:
        present = self.configurations.get(name)
        return not present or not configuration or present == configuration

    def add(self, trials: Trials, name: str) -> None:
        self.configurations[name] = self.configurations.get(name) or _configuration(trials, name)
        for row in trials[name].rows:
            self.rows.setdefault((name, row["phase"], row["run"]), row)


def united(contests: Iterable[Trials]) -> list[Trials]:
    """Contests of ledgers, in order, such that no contestant's configuration is in two of them."""
    groups: dict[Any, list[Trials]] = {}
    for trials in contests:
        assert trials.ledger is not None
        base = trials.baseline
        workloads = frozenset(row["workload"] for row in trials[base].rows if row["phase"] == "final")
        groups.setdefault((trials.ledger.cell, base, _configuration(trials, base), workloads), []).append(trials)
    return [cell for members in groups.values() for cell in _cells(sorted(members, key=_pairs, reverse=True))]


def _cells(members: list[Trials]) -> list[Trials]:
    cells: list[_United] = []
    for trials in members:
        for name in dict.fromkeys([trials.baseline, *trials.names]):
            cell = next((cell for cell in cells if cell.takes(name, _configuration(trials, name))), None)
            if cell is None:
                cells.append(cell := _United(trials))
            cell.add(trials, trials.baseline)
            cell.add(trials, name)
    runs = {name: run for trials in members for name, run in trials.runs.items()}
    further = {name: losses for trials in members for name, losses in trials.further.items()}
    specs = {name: spec for trials in members for name, spec in trials.specs.items()}
    return [
        Trials(
            tuple(c.rows.values()),
            c.first.baseline,
            tuple(c.configurations),
            c.first.ledger,
            runs,
            further=further,
            specs=specs,
        )
        for c in cells
    ]


def _configuration(trials: Trials, name: str) -> frozenset[str]:
    return frozenset(row["hyperparameters"] or "" for row in trials[name].rows if row["phase"] == "final")


def _pairs(trials: Trials) -> int:
    """Final runs that are done on seeds which the baseline has too."""
    done = {
        name: {
            (row["init_seed"], row["data_seed"])
            for row in trials[name].rows
            if row["phase"] == "final" and row["status"] == "done"
        }
        for name in trials.names
    }
    return sum(len(done[name] & done[trials.baseline]) for name in trials.names if name != trials.baseline)
