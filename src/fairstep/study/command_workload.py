"""From a cell of a command to the CommandSpecs of its trials: what ``Workload`` is for our own trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairstep.runs import Cell, CommandSpec, Trainer, Value
from fairstep.study.protocols.space import Configuration


@dataclass(frozen=True)
class CommandWorkload:
    """Everything of a run of somebody else's trainer but its contestant's values, budget and seed.

    ``values`` are the cell's placeholders. ``arguments``: contestant -> its own arguments. ``batch_tokens`` 1: nobody
    declared it, and tokens are steps. ``parameters`` as declared, 0 if not.
    """

    trainer: Trainer
    steps: int
    batch_tokens: int = 1
    values: Mapping[str, Value] = field(default_factory=dict)
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: int = 0

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_tokens

    @property
    def parameters_matrix(self) -> int:
        """For laws over sizes, which need one."""
        return self.parameters or 1

    def changed(self, settings: Configuration) -> CommandWorkload:
        """A command has no settings beside its contestant's. Raises ValueError."""
        if settings:
            raise ValueError(f"a command has no placeholder {next(iter(settings))!r} here")
        return self

    def setting(self, name: str) -> Value:
        """The cell's value of a placeholder."""
        return self.values[name]

    def tokens_of(self, budget: float) -> int:
        """A fraction of the cell's tokens in whole steps."""
        return max(1, round(budget * self.steps)) * self.batch_tokens

    def spec(
        self,
        contestant: str,
        settings: Configuration,
        seed: int,
        tokens: int | None = None,
        undecayed: tuple[str, ...] | None = None,
    ) -> CommandSpec:
        """The run of one trial. Trials of different contestants with the same seed are paired. ``undecayed`` is for our
        own trainer."""
        return CommandSpec(
            trainer=self.trainer,
            arguments=self.arguments.get(contestant, ()),
            settings=dict(settings),
            cell=dict(self.values),
            seed=seed,
            steps=self.steps if tokens is None else tokens // self.batch_tokens,
            batch_tokens=self.batch_tokens,
        )

    def cell(self) -> Cell:
        """The cell as a ledger records it."""
        known = self.spec("", {}, 0)
        return Cell(
            model=known.model_name,
            parameters_matrix=self.parameters,
            parameters=self.parameters,
            tokens=self.tokens,
            batch_tokens=self.batch_tokens,
            steps=self.steps,
            data=str(self.trainer.constants.get("data", "")),
            fingerprint=self.trainer.code,
            vocabulary=0,
            precision=str(self.trainer.constants.get("precision", "")),
        )
