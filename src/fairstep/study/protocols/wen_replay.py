"""Replay: W's phase I without training, on the losses that W published.

The protocol asks, and the published sweeps answer. They hold the star around one centre for each optimizer and cell,
and little else. A configuration that the protocol asks for and nobody has published is a *hole*; the search cannot
choose it. Grids are W's and are not extended, because beyond them everything is a hole.

The search begins at the published centre where neither the starting point nor any single-coordinate move of it has a
published finite loss; the row says so. A cell is *covered* if some published configuration comes within the tolerance
of the published best loss. A few of W's own records are not.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairstep.published import wen
from fairstep.runs import Value
from fairstep.study.protocols.one_cell import OneCell, settle
from fairstep.study.protocols.search import Problem, Tuning, Wanted, solve
from fairstep.study.protocols.space import Axis, Configuration, Key, Space, key

TOLERANCE = 3e-3
"""W's acceptance threshold Delta1, in nats per token."""

NEAR = 5e-3
"""The tolerance of the near-optimal lists that W's records of 2025-05 hold."""

CONTEXT = 4096


@dataclass
class Record:
    """What W published of one optimizer in one cell. ``losses`` are over the hyperparameters of ``space`` alone."""

    optimizer: str
    model_size: str
    ratio: int
    space: Space
    start: Configuration
    centre: Configuration
    best: float
    tokens: int
    losses: dict[Key, float]
    near_optimal: list[dict[str, Value]]
    holes: set[Key] = field(default_factory=set)

    @property
    def covered(self) -> bool:
        return min(self.losses.values()) - self.best <= TOLERANCE

    @property
    def entry(self) -> tuple[Configuration, str]:
        """Where the replay begins, and why, if not at the published start."""
        reachable = [self.start, *self.space.star(self.start)]
        if any(self.losses.get(key(point), math.inf) <= wen.DIVERGED for point in reachable):
            return self.start, ""
        return self.centre, "begun at the centre: nothing published around the start"

    def answer(self, configuration: Configuration) -> float:
        """The published loss; nan for what W's rules leave out (a warm-up longer than the run) and for holes."""
        place = key(configuration)
        if place in self.losses:
            loss = self.losses[place]
            return math.inf if loss > wen.DIVERGED else loss
        steps = self.tokens // (CONTEXT * int(configuration.get("train_batch_size", 128)))
        if float(configuration.get("warmup", 0)) < steps:
            self.holes.add(place)
        return math.nan


@dataclass(frozen=True)
class Row:
    """One cell of the table. ``ours`` is None where the replay ended without a finite loss; ``trials`` are those with a
    published result, against ``published_trials`` in W's records; ``holes`` were asked for and are not on record."""

    optimizer: str
    model_size: str
    chinchilla_ratio: int
    published: float
    ours: float | None
    gap: float | None
    trials: int
    published_trials: int
    holes: int
    covered: bool
    within: bool
    edges: str
    note: str


@dataclass(frozen=True)
class Replay:
    """``rows`` by cell; ``sensitive`` hyperparameters by optimizer: as published (None: no list was), by
    W's rule on the published near-optimal lists, and by W's rule on the replayed searches."""

    rows: tuple[Row, ...]
    sensitive: dict[str, dict[str, list[str] | None]]


def replay(protocol: OneCell, optimizers: Sequence[str] = ()) -> Replay:
    """Run phase I of these optimizers (default: all) on the published sweeps. Raises ValueError for unknown ones."""
    found = records()
    optimizer_names = list(dict.fromkeys(record.optimizer for record in found))
    if unknown := [name for name in optimizers if name not in optimizer_names]:
        raise ValueError(f"W has no optimizer {unknown[0]!r}; it has {', '.join(optimizer_names)}")
    chosen = [record for record in found if not optimizers or record.optimizer in optimizers]
    rows, near = [], defaultdict(list)
    for record in chosen:
        row, tuning = replayed(record, protocol)
        rows.append(row)
        near[record.optimizer].append(tuning.near(NEAR))
    published = wen.facts()["sensitive_hyperparameters"]["repository_2025_05"]
    lists: dict[str, dict[str, list[str] | None]] = {
        name: {
            "published": sorted(published[name]) if name in published else None,
            "from_published_lists": sorted(wen.sensitive([r.near_optimal for r in chosen if r.optimizer == name])),
            "from_replay": sorted(wen.sensitive(near[name])),
        }
        for name in near
    }
    return Replay(tuple(rows), lists)


def replayed(record: Record, protocol: OneCell) -> tuple[Row, Tuning]:
    """One cell: the protocol's search on the published losses."""
    start, note = record.entry
    tuning = Tuning(Problem(record.space, start, extensions=0))

    def answer(cell: str, wanted: Wanted) -> float:
        return record.answer(wanted.configuration)

    solve(settle(protocol, tuning), answer)
    best = tuning.best
    ours = tuning.loss(best) if best is not None and math.isfinite(tuning.loss(best)) else None
    gap = None if ours is None else ours - record.best
    edges = [edge.name for edge in record.space.edges(best)] if best is not None else []
    if not record.covered:
        note = "; ".join(filter(None, [note, "the best configuration is not on record"]))
    row = Row(
        optimizer=record.optimizer,
        model_size=record.model_size,
        chinchilla_ratio=record.ratio,
        published=record.best,
        ours=ours,
        gap=gap,
        trials=tuning.trials,
        published_trials=len(record.losses),
        holes=len(record.holes),
        covered=record.covered,
        within=gap is not None and gap <= TOLERANCE,
        edges=", ".join(edges),
        note=note,
    )
    return row, tuning


def records() -> list[Record]:
    """The six fully swept cells (phase I) of every optimizer."""
    sizes = {row["model_size"]: row["tokens_1x"] for row in wen.models().to_dicts()}
    sweeps = defaultdict(list)
    for row in wen.sweeps().to_dicts():
        if row["phase"] == "I":
            sweeps[row["optimizer"], row["model_size"], row["chinchilla_ratio"], row["record"]].append(row)
    return [_record(cell, sizes, sweeps) for cell in wen.cell_records() if cell["phase"] == "I"]


def _record(cell: dict[str, Any], sizes: dict[str, int], sweeps: Mapping[Any, list[dict[str, Any]]]) -> Record:
    place = (cell["optimizer"], cell["model_size"], cell["chinchilla_ratio"])
    space = Space({name: Axis(tuple(values)) for name, values in cell["grid"].items()})
    losses: dict[Key, float] = {}
    for centre in cell["centres"]:
        around = _only(centre["hyperparameters"], space.axes)
        for row in sweeps[*place, centre["record"]]:
            name = row["hyperparameter"]
            if name is None or name in space.axes:
                point = around if name is None else {**around, name: json.loads(row["value"])}
                losses.setdefault(key(point), row["loss"])
    return Record(
        optimizer=cell["optimizer"],
        model_size=cell["model_size"],
        ratio=cell["chinchilla_ratio"],
        space=space,
        start=_only(cell["start"], space.axes),
        centre=_only(cell["centres"][0]["hyperparameters"], space.axes),
        best=cell["best_loss"],
        tokens=sizes[cell["model_size"]] * cell["chinchilla_ratio"],
        losses=losses,
        near_optimal=wen.near_optimal(cell),
    )


def _only(configuration: Configuration, names: Iterable[str]) -> dict[str, Value]:
    return {name: configuration[name] for name in names if name in configuration}
