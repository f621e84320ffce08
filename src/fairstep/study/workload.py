"""From a cell (model size x token budget x batch size x data) to the RunSpecs of its trials."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fairstep import optim
from fairstep.model.facts import counts
from fairstep.optim.spec.overrides import SCHEDULED, is_override, split
from fairstep.runs import (
    AnyModelSpec,
    Cell,
    DataSpec,
    DecayShape,
    EvaluationSpec,
    Execution,
    OptimizerChoice,
    RunSpec,
    ScheduleKind,
    ScheduleSpec,
    Value,
)
from fairstep.study.protocols.space import Configuration
from fairstep.study.transfer import Transfer

WARMUPS = ("warmup_steps", "warmup_fraction", "warmup_tokens")
SHAPE = ("final_fraction", "decay_fraction", "decay_shape", "warmup_shape", "warmup_start", "positions")
"""What a schedule has beside its kind and its warm-up, under the names of ``ScheduleSpec``."""
TUNABLE = ("batch_sequences", *WARMUPS, "clip_norm", "schedule", *SHAPE)
"""Hyperparameters of the run, which a search space may hold beside the optimizer's own."""

FEW_STEPS, TOO_FEW_STEPS = 50, 10
"""Below the first a contest warns, below the second it is refused."""


def check_steps(steps: int) -> None:
    """Raises ValueError for runs of a contest that end before an optimizer has begun."""
    if steps < TOO_FEW_STEPS:
        raise ValueError(
            f"a run would be {steps} step{'' if steps == 1 else 's'} long, in which no optimizer shows what it can; "
            f"give {TOO_FEW_STEPS} or more, and some hundreds for a verdict that means something"
        )


@dataclass(frozen=True)
class Workload:
    """Everything of a run but its optimizer, budget and seed: the same for every contestant, unless it is searched.

    Tokens are tied: another batch size changes the number of steps and never the tokens. The warm-up is tied to one
    thing: to the run's steps (``warmup_fraction``; runs of other lengths keep the schedule's shape), to nothing
    (``warmup_steps``, as W sweeps the batch size), or to tokens (``warmup_tokens``; another batch size warms up over
    the same text). Raises ValueError when it is tied to two.
    """

    model: AnyModelSpec
    data: DataSpec
    batch_sequences: int
    tokens: int
    precision: Literal["float32", "bf16"] = "float32"
    schedule: ScheduleKind | Literal["own"] = "cosine"
    warmup_fraction: float | None = None
    warmup_steps: int | None = None
    warmup_tokens: int | None = None
    final_fraction: float = 0.0
    decay_fraction: float = 0.2
    decay_shape: DecayShape = "1-sqrt"
    warmup_shape: Literal["linear", "half-cosine"] = "linear"
    warmup_start: float = 0.0
    positions: Literal["open", "from_start", "closed"] = "open"
    clip_norm: float = 1.0
    evaluation_tokens: int = 131_072
    execution: Execution = field(default_factory=Execution)
    transfer: Transfer | None = None
    """How hyperparameters, which are then a base model's, become the model's."""

    def __post_init__(self) -> None:
        given = [name for name in WARMUPS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"the warm-up is tied to one thing, not to {' and '.join(given)}; give one of them")
        if not given:
            object.__setattr__(self, "warmup_fraction", 0.05)

    def changed(self, settings: Configuration) -> Workload:
        """With other values of TUNABLE hyperparameters. Raises ValueError for any other name."""
        for name in settings:
            if name not in TUNABLE:
                raise ValueError(f"a run has no hyperparameter {name!r}; it has {', '.join(TUNABLE)}")
        changes: dict[str, Any] = dict(settings)
        if changes.keys() & set(WARMUPS):
            changes = dict.fromkeys(WARMUPS) | changes
        return replace(self, **changes) if changes else self

    def setting(self, name: str) -> Value:
        """The value of a TUNABLE hyperparameter; of a warm-up that is tied to something else, what it comes to."""
        value = getattr(self, name)
        if value is not None:
            return value
        steps = self.warmup(self.tokens // self.batch_tokens)
        tokens = steps * self.batch_tokens
        return {"warmup_steps": steps, "warmup_tokens": tokens, "warmup_fraction": tokens / self.tokens}[name]

    @property
    def batch_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_sequences * self.model.context

    @property
    def parameters_matrix(self) -> int:
        """Matrix parameters (attention, MLP, experts), the size that W's names and Chinchilla multiples count."""
        return counts(self.model).matrix

    @property
    def parameters(self) -> int:
        """All parameters, embedding, head and norms included."""
        return counts(self.model).total

    def warmup(self, steps: int) -> int:
        """Warm-up of a run of so many steps."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        if self.warmup_tokens is not None:
            return self.warmup_tokens // self.batch_tokens
        assert self.warmup_fraction is not None
        return round(self.warmup_fraction * steps)

    def tokens_of(self, budget: float) -> int:
        """A fraction of the cell's tokens in whole batches."""
        return max(1, round(budget * self.tokens / self.batch_tokens)) * self.batch_tokens

    def spec(
        self,
        optimizer: str,
        hyperparameters: Configuration,
        seed: int,
        tokens: int | None = None,
        undecayed: tuple[str, ...] | None = None,
    ) -> RunSpec:
        """The run of one trial. One number seeds both initialisation and data order, so that trials of different
        contestants with the same seed are paired. What the run decides of the hyperparameters is filled in
        (``OptimizerSpec.of_run``). Raises pydantic.ValidationError for impossible combinations."""
        tokens = self.tokens if tokens is None else tokens
        steps = tokens // self.batch_tokens
        known = optim.get(optimizer)
        if self.transfer:
            length = {"tokens": tokens, "batch_tokens": self.batch_tokens}
            hyperparameters = self.transfer.hyperparameters(optimizer, hyperparameters, self.model, undecayed, **length)
        schedule = self.schedule_of(optimizer, steps)
        for name, value in hyperparameters.items():
            if is_override(name) and (own := split(name)[1]) in SCHEDULED:
                schedule.with_own({own: value})
        resolved = known.of_run(hyperparameters, steps=steps, precision=self.precision)
        return RunSpec(
            model=self.model,
            data=self.data,
            optimizer=OptimizerChoice(
                name=optimizer,
                hyperparameters=known.without_idle(resolved),
                version=optim.version(optimizer),
                undecayed=undecayed,
            ),
            schedule=schedule,
            evaluation=EvaluationSpec(
                every_steps=max(1, steps // 10),
                tokens=max(self.model.context, self.evaluation_tokens // 16),
                final_tokens=self.evaluation_tokens,
            ),
            batch_sequences=self.batch_sequences,
            tokens=tokens,
            clip_norm=self.clip_norm,
            precision=self.precision,
            init_seed=seed,
            data_seed=seed,
            execution=self._execution(),
        )

    def _execution(self) -> Execution:
        """With a micro-batch that divides the batch, which a search may have changed."""
        micro = self.execution.micro_batch_sequences
        if not micro or self.batch_sequences % micro == 0:
            return self.execution
        shared = math.gcd(micro, self.batch_sequences)
        return self.execution.model_copy(update={"micro_batch_sequences": shared})

    def schedule_of(self, optimizer: str, steps: int) -> ScheduleSpec:
        """The contest's schedule; or, where that is "own", the one of the optimizer's spec, as each contestant of W has
        its own (AdamW cosine with warm-up, Muon constant and then linear without)."""
        if self.schedule == "own":
            schedule = optim.get(optimizer).schedule
            return ScheduleSpec(
                kind=schedule.kind,
                warmup_steps=round(schedule.warmup_fraction * steps),
                final_fraction=schedule.final_fraction,
                decay_fraction=schedule.decay_fraction,
                decay_shape=schedule.decay_shape,
            )
        shape = {name: getattr(self, name) for name in SHAPE}
        return ScheduleSpec(kind=self.schedule, warmup_steps=self.warmup(steps), **shape)

    def cell(self) -> Cell:
        """The cell as a ledger records it."""
        return Cell(
            model=self.model.preset,
            parameters_matrix=self.parameters_matrix,
            parameters=self.parameters,
            tokens=self.tokens,
            batch_tokens=self.batch_tokens,
            steps=self.tokens // self.batch_tokens,
            data=self.data.name,
            fingerprint=self.data.fingerprint,
            vocabulary=self.data.vocabulary,
            precision=self.precision,
            transfer=self.transfer.name if self.transfer else "",
        )
