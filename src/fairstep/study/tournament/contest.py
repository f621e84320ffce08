"""A contest: who competes, on which cells, tuned by which protocol, repeated on which seeds. Only a description.

``Plan`` turns it into trials. A contestant goes through four phases in a cell:

* tuning by the protocol (``tune``, seed 0);
* the best ``finalists`` configurations within the tolerance, on further seeds; the lowest mean is chosen (``tune`` too,
  since it is search);
* the chosen configuration on fresh seeds, the same for every contestant (``final``: only these count for a verdict).
  After the first ones, the contestants that are not decided are trained on one more seed at a time;
* for the baseline also other token budgets (``budget``). Each is a full run with its own schedule, so that a loss can
  be turned into tokens. With ``refine`` the baseline's learning rate is tried again at the longest budget (seed 0), and
  the budgets nearer to that one than to the contest's take the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fairstep import optim
from fairstep.model.facts import parameter_table
from fairstep.optim.spec.overrides import LR_RATIO, is_override
from fairstep.runs import Design, Spec, Summary, Value
from fairstep.study.command_workload import CommandWorkload
from fairstep.study.protocols import Protocol
from fairstep.study.protocols.grid import Grid
from fairstep.study.protocols.search import Problem, Search
from fairstep.study.protocols.space import Configuration, Space
from fairstep.study.tournament.recorded import Recorded
from fairstep.study.workload import FEW_STEPS, TUNABLE, Workload

AnyWorkload = Workload | CommandWorkload
"""Of our own trainer, or of somebody else's."""

FINALIST_SEED = 1001
"""The first of the seeds that choose among finalists; tuning has seed 0 and final runs have seeds 1, 2, ..."""

COMPANIONS = ("embedding", "head", "vector")
"""Roles whose learning rates the stage ``companions`` tunes, in this order."""

Results = Callable[[str], Summary | None]
"""The result of a run by its identity, or None while there is none (unfinished, failed, never started)."""


@dataclass(frozen=True)
class Contestant:
    """An optimizer with its search space. ``hyperparameters`` are all of the optimizer's own, written out; of somebody
    else's trainer, all placeholders of the contestant.

    ``starts`` and ``spaces`` are what is different in some cells: other values to begin with, of hyperparameters that
    are searched there or not, and other grids. ``undecayed``: see ``runs.OptimizerChoice``.
    """

    name: str
    hyperparameters: Mapping[str, Value]
    space: Space
    optimizer: str = ""
    """Default: the contestant's name."""
    starts: Mapping[str, Configuration] = field(default_factory=dict)
    spaces: Mapping[str, Space] = field(default_factory=dict)
    undecayed: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for space in (self.space, *self.spaces.values()):
            for name in space.axes:
                if name not in self.hyperparameters and name not in TUNABLE:
                    raise ValueError(
                        f"{self.name} has a grid for {name!r}, which is a hyperparameter of neither the optimizer "
                        f"({', '.join(self.hyperparameters)}) nor the run ({', '.join(TUNABLE)})"
                    )

    def spec(self, workload: AnyWorkload, configuration: Configuration, seed: int, tokens: int | None = None) -> Spec:
        """The run of a configuration. Raises ValueError for one that cannot be run."""
        of_optimizer = {name: value for name, value in configuration.items() if self.has(name)}
        settings = {name: value for name, value in configuration.items() if not self.has(name)}
        return workload.changed(settings).spec(
            self.optimizer or self.name, {**self.hyperparameters, **of_optimizer}, seed, tokens, self.undecayed
        )

    def has(self, name: str) -> bool:
        """Whether a setting is the optimizer's: every one of the run's has a plain name."""
        return name in self.hyperparameters or is_override(name)

    def space_in(self, cell: str) -> Space:
        """What is searched in a cell."""
        return self.spaces.get(cell, self.space)

    def start(self, cell: str, workload: AnyWorkload) -> dict[str, Value]:
        """The configuration with which a search begins in a cell."""
        own = {
            name: self.hyperparameters[name] if name in self.hyperparameters else workload.setting(name)
            for name in self.space_in(cell).axes
        }
        return {**own, **self.starts.get(cell, {})}

    def problem(
        self,
        cell: str,
        workload: AnyWorkload,
        extensions: int,
        trials: int,
        refine: bool = False,
        companions: int = 0,
    ) -> Problem:
        """What a protocol is to solve in a cell. Raises ValueError where ``companions`` cannot be tuned."""
        given = self.starts.get(cell, {})
        return Problem(
            space=self.space_in(cell),
            start=self.start(cell, workload),
            extensions=extensions,
            refine=refine,
            trials=trials,
            parameters=workload.parameters_matrix,
            tokens=workload.tokens,
            batch_tokens=workload.batch_tokens,
            companions=self._companions(workload) if companions else (),
            rounds=companions,
            ratios=lambda configuration: self._ratios(workload, {**given, **configuration}),
        )

    def _companions(self, workload: AnyWorkload) -> tuple[str, ...]:
        """Ratios of the roles that the cell's model has. Raises ValueError if there are none, or may be none."""
        if not isinstance(workload, Workload):
            raise ValueError("companions are roles of fairstep's own models, and a command tells none")
        spec = optim.get(self.optimizer or self.name)
        there = {parameter.role for parameter in parameter_table(workload.model)}
        names = tuple(f"{role}.{LR_RATIO}" for role in COMPANIONS if role in there)
        for name in names:
            spec.hyperparameter(name)
        return names

    def _ratios(self, workload: AnyWorkload, configuration: Configuration) -> dict[str, Value]:
        """The learning rates of companions over the contestant's, in a configuration."""
        spec = optim.get(self.optimizer or self.name)
        values = {**self.hyperparameters, **configuration}
        return {
            name: values.get(name, spec.hyperparameter(name, values).default) for name in self._companions(workload)
        }


@dataclass(frozen=True)
class Contest:
    """``seeds`` of the final runs: a number, or a design such as "3..8" (``runs.Design``). ``budgets`` are fractions of
    a cell's tokens, 1 not among them. ``refine``: see ``Problem``. ``trials`` limits the tuning of one contestant in
    one cell (0: the protocol decides). ``tolerance`` (nats per token) says which configurations are near the best; its
    default is W's acceptance threshold. ``declared``: the designs in the ledgers, by cell, where earlier contests
    left less alpha. ``recorded``: contestants whose search is over, in a contest of one cell."""

    cells: Mapping[str, AnyWorkload]
    contestants: tuple[Contestant, ...]
    baseline: str
    protocol: Protocol = field(default_factory=Grid)
    seeds: int | str = 3
    finalists: int = 1
    finalist_seeds: int = 2
    tolerance: float = 3e-3
    budgets: tuple[float, ...] = (0.5, 2.0)
    budget_seeds: int = 1
    extensions: int = 4
    refine: bool = False
    companions: int = 0
    """Rounds of the stage ``companions`` after the protocol (``protocols/companions.py``)."""
    trials: int = 0
    declared: Mapping[str, Design] = field(default_factory=dict)
    recorded: Mapping[str, Recorded] = field(default_factory=dict)

    @cached_property
    def design(self) -> Design:
        """The design of the seeds, over the contestants beside the baseline. Raises ValueError."""
        return Design.parse(self.seeds).model_copy(update={"family": len(self.contestants) - 1})

    def design_in(self, cell: str) -> Design:
        """The design of a cell's ledger, or the one that it will be declared with in an empty store."""
        return self.declared.get(cell, self.design)

    @property
    def own_cells(self) -> dict[str, Workload]:
        """The cells that fairstep's own trainer trains: all of them, or none."""
        return {name: workload for name, workload in self.cells.items() if isinstance(workload, Workload)}

    def warnings(self) -> list[str]:
        """Why a verdict of this contest will say less than it could, one sentence each."""
        said = []
        if self.design.most is not None and self.design.most < 2:
            said.append(
                f"seeds = {self.design} gives no interval, so no contestant can be called faster or slower; 3 or more "
                'seeds would, or a design such as "3..8"'
            )
        steps = {name: workload.tokens // workload.batch_tokens for name, workload in self.cells.items()}
        if short := {name: count for name, count in steps.items() if count < FEW_STEPS}:
            where = f" in {', '.join(short)}" if len(steps) > 1 else ""
            said.append(
                f"a run{where} is only {min(short.values())} steps long; what holds there may not hold for runs of "
                "some hundreds"
            )
        fixed = [one for one in self.contestants if not any(one.space_in(cell).searched for cell in self.cells)]
        if fixed:
            rates = {one.hyperparameters.get("lr") for one in fixed}
            same = f" (lr {rates.pop()} for each)" if len(fixed) > 1 and len(rates) == 1 and None not in rates else ""
            names = ", ".join(one.name for one in fixed)
            said.append(
                f"nothing is searched for {names}{same}: the verdict is on these settings, not on the optimizers"
            )
        return said

    def search(self, contestant: str, problems: Mapping[str, Problem]) -> Search[Any]:
        """The protocol's search of a contestant, by cell; a recorded contestant's trials again."""
        recorded = self.recorded.get(contestant)
        return self.protocol.search(problems) if recorded is None else recorded.search(problems)

    def problems(self, contestant: Contestant) -> dict[str, Problem]:
        """What a contestant's protocol is to solve, by cell."""
        return {
            name: contestant.problem(name, workload, self.extensions, self.trials, self.refine, self.companions)
            for name, workload in self.cells.items()
        }
