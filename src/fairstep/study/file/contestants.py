"""The ``[[contestants]]`` of a study file: optimizers with their search spaces, and what may be wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fairstep import optim
from fairstep.model.facts import parameter_table
from fairstep.optim.spec.overrides import is_override
from fairstep.runs.frozen import explain
from fairstep.study.file.cells import StudyCell
from fairstep.study.file.line_numbers import LineNumbers
from fairstep.study.file.published_spaces import axis_of, contestant_from_spec, nearest_run
from fairstep.study.file.schema import ContestantTable
from fairstep.study.published_runs import PAPERS
from fairstep.study.tournament.contest import Contestant
from fairstep.study.workload import WARMUPS, Workload

SCHEDULED = (*WARMUPS, "final_fraction", "decay_fraction", "decay_shape")
"""Settings that an optimizer's own schedule brings along."""


def contestants_of(
    lines: LineNumbers, number: int, described: ContestantTable, workloads: Mapping[str, Workload]
) -> Iterator[Contestant]:
    """The contestants of table ``number``. Raises StudyError."""
    at: list[str | int] = ["contestants", number]
    names = described.optimizer if isinstance(described.optimizer, list) else [described.optimizer]
    if not names:
        raise lines.error([*at, "optimizer"], "the list of optimizers is empty; name at least one")
    for name in described.grid:
        if not described.grid[name]:
            raise lines.error([*at, "grid", name], f"the grid of {name} is empty; give it at least one value")
    if unknown := [name for name in described.factor if name not in described.grid]:
        raise lines.error([*at, "factor", unknown[0]], f"factor names {unknown[0]!r}, which has no grid here")
    if len(tied := [name for name in WARMUPS if name in described.grid or name in described.run]) > 1:
        raise lines.error(
            [*at, "grid", tied[-1]], f"contradictory ties: the warm-up is tied to {' and to '.join(tied)}; keep one"
        )
    space = described.space or ("none" if described.start else "own")
    paper, _, scale = space.partition("/")
    if paper not in (*PAPERS, "own", "none"):
        raise lines.error(
            [*at, "space"],
            f"space must be own, none, {' or '.join(PAPERS)}, or with a scale, wen/130m; not {space!r}",
        )
    searched: set[str] = set()
    for name in names:
        try:
            spec = optim.get(name)
            label = described.name.replace("{optimizer}", spec.name)
            if described.name and len(names) > 1 and "{optimizer}" not in described.name:
                raise ValueError(f"{described.name!r} is the name of {len(names)} contestants; put {{optimizer}} in it")
            contestant = contestant_from_spec(
                name,
                workloads,
                PAPERS.get(paper),
                described.set,
                {key: axis_of(spec, key, values, described.factor.get(key)) for key, values in described.grid.items()},
                [] if space == "none" else described.only,
                label,
                scale,
                described.start or _published(spec, space, workloads),
                described.run,
            )
            axes = {axis for one in contestant.spaces.values() for axis in one.axes}
            searched.update(axes, (key for key in described.only or () if spec.canonical(key) in axes))
            yield contestant
        except (ValueError, ImportError, AttributeError) as error:
            sentence = explain(error) if isinstance(error, ValidationError) else str(error)
            sentence = sentence if name in sentence else f"{name}: {sentence}"
            raise lines.error(_blamed(at, described, sentence), sentence) from None
    for key in described.only or ():
        if key not in searched:
            raise lines.error(
                [*at, "only"],
                f"only names {key!r}, which nothing searches: the space {space!r} has no grid of it here, or it is "
                f"fixed; leave it out, or write grid.{key} = [...]",
            )


def _published(spec: optim.OptimizerSpec, space: str, workloads: Mapping[str, Workload]) -> str:
    """The paper of a space, if it published a run of the optimizer in every cell's size."""
    if space.partition("/")[0] not in PAPERS:
        return ""
    try:
        for workload in workloads.values():
            nearest_run(spec, space, workload)
    except ValueError:
        return ""
    return space


def _blamed(at: list[str | int], described: ContestantTable, sentence: str) -> list[str | int]:
    """The key that an optimizer's complaint is about: one whose name it quotes, else the optimizer."""
    for part in ("set", "grid", "run"):
        for key in getattr(described, part):
            if re.search(rf"(?<!\w){re.escape(key)}(?!\w)", sentence.split(" (did you mean")[0].split("; it has")[0]):
                return [*at, part, key]
    if "search space" in sentence or "published" in sentence:
        return [*at, "start" if described.start else "space"]
    return [*at, "optimizer"]


def check(lines: LineNumbers, number: int, contestant: Contestant, cells: Sequence[StudyCell]) -> None:
    """Its starting point can be run in every cell, and what it searches is tied to nothing else."""
    spec = optim.get(contestant.optimizer)
    for cell in cells:
        start = contestant.start(cell.name, cell.workload)
        searched = contestant.space_in(cell.name).axes
        if start.get("schedule", cell.workload.schedule) == "own" and (tied := [k for k in SCHEDULED if k in searched]):
            raise lines.error(
                ["contestants", number, "grid", tied[0]],
                f'contradictory ties: {tied[0]} is searched, and schedule = "own" of {cell.name} has its own',
            )
        if cell.length == "steps" and "batch_sequences" in searched:
            raise lines.error(
                ["cells", cell.table, "steps"],
                f"contradictory ties: the length of {cell.name} is given in steps, and {contestant.name} searches "
                "the batch size, which leaves the tokens as they are; give the length as tokens or chinchilla",
            )
        with lines.at("cells", cell.table, before=f"{contestant.name} cannot begin in {cell.name}: "):
            values = {**contestant.hyperparameters, **start}
            if any(map(is_override, values)):  # only then: a foreign model's table is counted
                roles: dict[str, Any] = {one.name: one.role for one in parameter_table(cell.workload.model)}
                spec.check_overrides(values, roles)
            contestant.spec(cell.workload, start, 0)
