"""What each of several ranks has of an optimizer's work and state, and what they send each other, without machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairstep import optim
from fairstep.model.shapes import Parameter
from fairstep.optim.ownership import Work, divide, totals
from fairstep.runs import RunSpec

FLOAT = 4
"""Bytes of a gradient and of a weight as they are sent."""

Parallel = Literal["ddp-sharded", "ddp"]


@dataclass(frozen=True)
class Division:
    """Of one optimizer step on ``ranks`` ranks. ``flops_*`` and ``state_floats_*``: of one rank; ``sent_bytes``: by one
    rank, if every reduce and broadcast goes around a ring: (ranks - 1)/ranks of all gradients and of all weights."""

    parallel: Parallel
    ranks: int
    flops_mean: float
    flops_largest: float
    state_floats_largest: int
    state_floats_whole: int
    idle: int
    sent_bytes: int

    @property
    def imbalance(self) -> float:
        """How much more the busiest rank does than the mean one."""
        return self.flops_largest / self.flops_mean - 1 if self.flops_mean else 0.0


def division(spec: RunSpec, table: list[Parameter], ranks: int, parallel: Parallel) -> Division | None:
    """None for an optimizer that is not ours, whose work is not known. One rank has everything."""
    tasks = works(spec, table)
    if tasks is None:
        return None
    whole = totals(tasks, divide(tasks, 1))[0]
    sent = round(2 * (ranks - 1) / ranks * FLOAT * sum(parameter.elements for parameter in table))
    if parallel == "ddp":
        return Division(parallel, ranks, whole[0], whole[0], round(whole[1]), round(whole[1]), 0, sent)
    loads = totals(tasks, divide(tasks, ranks))
    flops = [load[0] for load in loads]
    return Division(
        parallel=parallel,
        ranks=ranks,
        flops_mean=sum(flops) / ranks,
        flops_largest=max(flops),
        state_floats_largest=round(max(load[1] for load in loads)),
        state_floats_whole=round(whole[1]),
        idle=sum(not load[0] for load in loads),
        sent_bytes=sent,
    )


def works(spec: RunSpec, table: list[Parameter]) -> list[Work] | None:
    """The step of every parameter, as the trainer divides it; None for an optimizer that is not ours."""
    chosen = optim.get(spec.optimizer.name)
    if not chosen.parts:
        return None
    hyper = chosen.validate(spec.optimizer.hyperparameters)
    found = []
    for parameter in table:
        part = chosen.part(parameter.role, hyper)  # type: ignore[arg-type]
        found.append(Work.of(parameter.name, part.rule, parameter.role, parameter.shape, part.hyper(hyper)))
    return found
