"""Contests on known losses, without any run: what the tests of searches, certificates and forecasts play."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

from fairstep.runs import Ledger, RunSpec, Store, Summary, Trial, write_atomic
from fairstep.study import Contest, Plan, Space, ledgers
from fairstep.study.forecast.objectives import Synthetic

Answer = Callable[[str, Trial, RunSpec], float]
"""The loss of a trial, by cell; inf for a divergence."""


def play(contest: Contest, answer: Answer) -> Plan:
    """Carry a contest out on losses that are there for the asking; the plan that it ends in."""
    plan = Plan(contest)
    while (identity := plan.take()) is not None:
        spec = plan.specs[identity]
        cell, trial = plan.roles(identity)[0]
        plan.tell(identity, summary_of(spec, answer(cell, trial, spec)))
    return plan


def bases(contest: Contest) -> dict[str, Ledger]:
    """Ledgers to begin with, by cell."""
    names = tuple(contestant.name for contestant in contest.contestants)
    common = {"study": "played", "command": "fairstep compare", "baseline": contest.baseline, "contestants": names}
    return {
        cell: Ledger(name=f"played-{cell}".rstrip("-"), cell=workload.cell(), design=contest.design, **common)
        for cell, workload in contest.own_cells.items()
    }


def stored(plan: Plan, folder: Path, evaluations: int = 0) -> Store:
    """The store that a played contest would have left behind, with digests, and so many evaluations on the way."""
    store = Store(folder).writable()
    for identity, spec in plan.specs.items():
        run, summary = store.run(identity), plan.summaries[identity]
        write_atomic(run.directory / "spec.json", spec.to_json(), durable=False)
        places = [round(spec.steps * n / evaluations) for n in range(1, evaluations + 1)]
        rows = [
            {
                "kind": "evaluation",
                "step": step,
                "tokens": step * spec.batch_tokens,
                "loss": 5 - step / 1e3,
                "windows": 8,
            }
            for step in places
        ]
        write_atomic(run.directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows), durable=False)
        run.write_summary(run.sealed(summary))
    for ledger in ledgers(plan, bases(plan.contest)).values():
        store.write_ledger(ledger)
    return store


def summary_of(spec: RunSpec, loss: float, seconds: float = 0.0) -> Summary:
    """What a run with this loss would have left behind."""
    if not math.isfinite(loss):
        return Summary(status="diverged", steps=spec.steps // 4, tokens=spec.steps // 4 * spec.batch_tokens)
    return Summary(
        status="done", final_loss=loss, steps=spec.steps, tokens=spec.steps * spec.batch_tokens, train_seconds=seconds
    )


def random_objective(
    space: Space, seed: int, sigma: float = 1e-3, outside: float = 0.0, cliff: float = math.inf
) -> Synthetic:
    """A random objective: the optimum anywhere on the grid, or as far beyond its ends as ``outside`` steps;
    interactions as strong as keep one optimum."""
    draw = random.Random(f"objective {seed}")
    names = space.searched
    optimum, curvature = {}, {}
    for name in names:
        axis = space.axes[name]
        beyond = outside if axis.numeric else 0.0
        optimum[name] = draw.uniform(-beyond, len(axis.values) - 1 + beyond)
        curvature[name] = math.exp(draw.uniform(math.log(1e-3), math.log(2e-2)))
    pairs = {
        (a, b): draw.uniform(-1, 1) * 2 * math.sqrt(curvature[a] * curvature[b]) / max(1, len(names) - 1)
        for a, b in itertools.combinations(names, 2)
    }
    return Synthetic(space, optimum, curvature, pairs, sigma, cliff=cliff, salt=str(seed))
