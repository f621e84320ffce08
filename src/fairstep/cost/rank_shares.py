"""Each rank's share of an optimizer's work and state, and the bytes that ranks send each other, without machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fairstep import optim
from fairstep.model.facts import block_of
from fairstep.model.shapes import Parameter
from fairstep.optim.sharding.partition import divide, divide_shards, least_cost
from fairstep.optim.sharding.step_cost import Ownership, StepCost, summed_floats, totals
from fairstep.optim.spec.overrides import is_override
from fairstep.runs import RunSpec

FLOAT = 4
"""Bytes of a number of optimizer state."""

Parallel = Literal["ddp-sharded", "ddp", "fsdp"]


@dataclass(frozen=True)
class RankShares:
    """Of one optimizer step on ``ranks`` ranks. ``flops_*`` and ``state_floats_*``: of one rank. A rank's FLOPs are the
    step's in proportion to its share of the time (``step_cost.cost``), what every rank repeats included;
    ``flops_least``: what the busiest has at least, because some matrices are indivisible.

    ``weight_bytes`` and ``gradient_bytes``: the most that a rank holds at once. ``sent_bytes``: by one rank and step,
    if every collective goes around a ring: (ranks - 1)/ranks of all gradients and of all weights; with fsdp of the
    weights twice (before the forward and the backward pass of each block) and, of matrices that travel to their owners,
    the gradients and the new weights once more, divided by the ranks; and what updates add up over ranks.
    """

    parallel: Parallel
    ranks: int
    flops_mean: float
    flops_largest: float
    flops_least: float
    state_floats_largest: int
    state_floats_whole: int
    weight_bytes: int
    gradient_bytes: int
    idle: int
    sent_bytes: int

    @property
    def imbalance(self) -> float:
        """How much more the busiest rank does than the mean one."""
        return self.flops_largest / self.flops_mean - 1 if self.flops_mean else 0.0

    @property
    def imbalance_least(self) -> float:
        """The same where only what is indivisible stands in the way."""
        return max(0.0, self.flops_least / self.flops_mean - 1) if self.flops_mean else 0.0


def rank_shares(tasks: list[StepCost], table: list[Parameter], ranks: int, parallel: Parallel) -> RankShares:
    """Of ``step_costs`` and the model's parameters. One rank has everything."""
    undivided = divide(tasks, 1)
    whole = totals(tasks, undivided)[0]
    each_has_all = parallel == "ddp" or ranks == 1
    unit = sum(task.flops for task in tasks) / whole[0] if whole[0] else 0.0  # FLOPs of the rule for one of its cost
    sizes = {parameter.name: parameter.size_bytes for parameter in table}
    everything = sum(sizes.values())
    held = everything, everything
    sent: float = 2 * everything
    if each_has_all:
        ownership: Ownership = undivided * ranks
        least = whole[0]
    elif parallel == "ddp-sharded":
        ownership = divide(tasks, ranks)
        least = least_cost(tasks, ranks)
    else:
        ownership, gathered = divide_shards(tasks, {parameter.name: parameter.shape for parameter in table}, ranks)
        blocks: dict[str, int] = {}
        for name, size in sizes.items():
            block = block_of(name)
            blocks[block] = blocks.get(block, 0) + size
        outside = blocks.pop("", 0)
        copies = max(
            sum(
                sizes[name] * (piece.stop - piece.start) // piece.rows
                for name, piece in own.items()
                if name in gathered
            )
            for own in ownership
        )
        shards, at_once = -(-everything // ranks), outside + 2 * max(blocks.values(), default=0)
        held = shards + copies + at_once, shards + max(copies, at_once)
        sent = 2 * outside + 3 * (everything - outside) + 3 * sum(sizes[name] for name in gathered) // ranks
        others = [task for task in tasks if task.name in gathered]
        kept = [task for task in tasks if task.name not in gathered]
        least = least_cost(others, ranks) + sum(t.repeated_cost + (t.cost - t.repeated_cost) / ranks for t in kept)
    sent += 2 * FLOAT * summed_floats(tasks, ownership)
    loads = [whole] * ranks if each_has_all else totals(tasks, ownership)
    flops = [unit * load[0] for load in loads]
    return RankShares(
        parallel=parallel,
        ranks=ranks,
        flops_mean=sum(flops) / ranks,
        flops_largest=max(flops),
        flops_least=unit * least,
        state_floats_largest=round(max(load[1] for load in loads)),
        state_floats_whole=round(whole[1]),
        weight_bytes=held[0],
        gradient_bytes=held[1],
        idle=sum(not load[0] for load in loads),
        sent_bytes=round(sent * (ranks - 1) / ranks),
    )


def step_costs(spec: RunSpec, table: list[Parameter]) -> list[StepCost] | None:
    """The step of every parameter, as the trainer divides it; None for an optimizer that is not ours."""
    chosen = optim.get(spec.optimizer.name)
    if not chosen.parts:
        return None
    chosen.check_model({parameter.role for parameter in table})
    hyper = chosen.validate(spec.optimizer.hyperparameters)
    made: dict[Any, StepCost] = {}  # blocks are alike
    found = []
    overrides = any(map(is_override, hyper))
    for parameter in table:
        role: Any = parameter.role
        own = chosen.overridden(role, hyper, parameter.name) if overrides else {}
        alike = role, parameter.shape, *sorted(own.items())
        if alike not in made:
            rule = chosen.part(role, hyper).rule
            settings = chosen.settings(role, hyper, own)
            made[alike] = StepCost.of(parameter.name, rule, role, parameter.shape, settings)
        found.append(made[alike].named(parameter.name))
    return found
