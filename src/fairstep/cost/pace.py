"""How fast this machine carries runs out, from short runs of the same kind: what a plan of small models needs.

A model of a few thousand parameters spends most of a step, and much of a run, on other things than matrix products. Its
time therefore does not follow from FLOPs. A ``Pace`` is read off the records of a short run; ``cli`` makes those runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean

from fairstep import optim
from fairstep.runs import DataSpec, EvaluationSpec, Run, RunSpec, Value

STEPS, SECONDS = 40, 1.0
"""A timed run has so many steps, or fewer if they are expected to take longer than so many seconds."""

LEAST_STEPS = 3

WARM_STEPS = 2
"""Of the run before it, in which the model is compiled."""

MOST_EVALUATED = 16_384
"""Tokens of each of its evaluations at most."""

RANDOM = DataSpec(name="random", fingerprint="", vocabulary=257)
"""Bytes, which any model of text has entries for."""


@dataclass(frozen=True)
class Pace:
    """Seconds of one run's parts while ``at_once`` runs go on beside one another: ``step`` of an optimizer step,
    ``evaluation`` of a token that is evaluated, ``around`` of a run beside them (opening the text, building the model,
    writing results), ``first`` of a worker before its first such run (loading torch, compiling). ``batch_tokens`` of
    the run that was timed; ``load`` is the machine's average load before it."""

    step: float
    evaluation: float
    around: float
    first: float
    at_once: int
    batch_tokens: int
    load: float

    def seconds(self, spec: RunSpec) -> float:
        """A run of the same model and optimizer, of another length or batch (a step in proportion to its tokens), in
        a process that has carried out another."""
        steps = spec.steps * spec.batch_tokens / self.batch_tokens * self.step
        return self.around + steps + evaluated(spec) * self.evaluation


def evaluated(spec: RunSpec) -> int:
    """Tokens of all evaluations of a run, where the text has that many."""
    context, every = spec.model.context, spec.evaluation.every_steps
    windows = max(1, spec.evaluation.tokens // context)
    return ((spec.steps - 1) // every * windows + spec.evaluation.final_tokens // context) * context


def steps_for(expected: float) -> int:
    """Steps of a timed run whose steps are expected to take so many seconds, mostly too few."""
    return max(LEAST_STEPS, min(STEPS, round(SECONDS / expected)))


def short(spec: RunSpec, steps: int, seed: int = 0, data: DataSpec = RANDOM) -> RunSpec:
    """The run cut to ``steps`` steps, with an evaluation as those on the way in the middle and at the end. What does
    not decide its pace (learning rate, schedule, text, seed) is the same for all, so that runs of one pace have one
    identity; the learning rate is so small that nothing diverges."""
    tokens = min(spec.evaluation.tokens, MOST_EVALUATED)
    hyperparameters = dict(spec.optimizer.hyperparameters)
    lengths = optim.get(spec.optimizer.name).run_lengths
    same: dict[str, Value] = {"lr": 1e-6, **dict.fromkeys(lengths, steps)}
    hyperparameters |= {name: value for name, value in same.items() if name in hyperparameters}
    fields = {
        "model": spec.model,
        "data": data,
        "optimizer": spec.optimizer.model_copy(update={"hyperparameters": hyperparameters}),
        "evaluation": EvaluationSpec(every_steps=max(1, steps // 2), tokens=tokens, final_tokens=tokens),
        "batch_sequences": spec.batch_sequences,
        "tokens": steps * spec.batch_tokens,
        "clip_norm": spec.clip_norm,
        "precision": spec.precision,
        "init_seed": seed,
        "data_seed": seed,
        "execution": spec.execution,
    }
    return RunSpec.model_validate(fields)


def pace_of(run: Run, wall: float, at_once: int, load: float) -> Pace:
    """From a short run that took ``wall`` seconds in a process that had carried out another. ``first`` is not known.
    Raises ValueError for a run without a result."""
    spec, summary = run.own_spec, run.summary
    if summary is None or summary.status != "done":
        raise ValueError(f"a short run could not be timed: it ended as {run.status}; leave --measure out")
    around = max(wall - summary.step_seconds * summary.steps - summary.evaluation_seconds, 0.0)
    evaluation = summary.evaluation_seconds / evaluated(spec)
    return Pace(summary.step_seconds, evaluation, around, 0.0, at_once, spec.batch_tokens, load)


def mean(paces: list[Pace]) -> Pace:
    """Of processes that worked beside one another."""
    return replace(
        paces[0],
        step=fmean(pace.step for pace in paces),
        evaluation=fmean(pace.evaluation for pace in paces),
        around=fmean(pace.around for pace in paces),
    )
