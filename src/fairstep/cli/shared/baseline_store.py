"""``compare --baseline-from``: a baseline whose runs are taken from a store, after some of them were trained again.

In the manner of MLPerf's reference convergence points: a reference may be used where it can be reached. A contest of
the baseline alone, in the folder ``reference`` of the store, trains its chosen configuration on the first seeds again.
The runs that it trains take the place of the store's, so that the baseline's step is timed on this machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairstep import optim
from fairstep.analysis import AnalysisError
from fairstep.analysis.statistics import repeated
from fairstep.cli.shared import screen
from fairstep.cli.shared.contest_options import CompareOptions
from fairstep.cli.shared.options import at_least
from fairstep.cli.shared.store_problems import trained_otherwise, wrong_with
from fairstep.cli.shared.tournament import run_study
from fairstep.optim.spec.overrides import is_override
from fairstep.runs import Ledger, Run, RunSpec, Store, Value, write_atomic
from fairstep.runs.baseline_source import BaselineSource
from fairstep.runs.files import flat
from fairstep.study import Contest, Contestant, Space
from fairstep.study.file.cells import Text
from fairstep.study.file.launcher import launcher_of
from fairstep.study.file.study import Study
from fairstep.study.protocols.search import Wanted
from fairstep.study.tournament.recorded import Recorded, space_of
from fairstep.study.tournament.trials import loss_of

KEPT = ("spec.json", "metrics.jsonl", "timings.jsonl", "summary.json")
"""Files of a run that is taken; the summary last, for a run with one is finished."""


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline in a store. ``runs``: its final, search and budget runs. ``finals``: seed -> loss, inf if it
    diverged."""

    store: Store
    path: Path
    ledger: Ledger
    contestant: Contestant
    recorded: Recorded
    runs: Mapping[str, Run]
    finals: Mapping[int, float]

    def contest(self, own: Contest) -> Contest:
        """The contest with this baseline in place of one that is tuned."""
        name = self.contestant.name
        contestants = tuple(self.contestant if one.name == name else one for one in own.contestants)
        return replace(own, contestants=contestants, recorded={name: self.recorded})

    def reference(self, own: Contest, seeds: int) -> Contest:
        """The contest of the baseline alone that trains its first seeds again."""
        again = {self.contestant.name: replace(self.recorded, searched=(), budgets=(), failures={})}
        return replace(own, contestants=(self.contestant,), recorded=again, seeds=seeds, budgets=())

    def again(self, store: Store, own: Contest, seeds: int) -> dict[int, Run]:
        """Its runs of the first seeds in a store that has trained them."""
        (workload,) = own.cells.values()
        specs = {seed: self.contestant.spec(workload, self.recorded.choice, seed) for seed in range(1, seeds + 1)}
        return {seed: store.run(spec.identity) for seed, spec in specs.items()}

    def checked(self, again: Mapping[int, Run], margin: float) -> BaselineSource:
        """What the runs that were trained again say. Raises ValueError with the numbers if they are not the store's."""
        seeds = sorted(again)
        here, there = [_loss(again[seed]) for seed in seeds], [self.finals[seed] for seed in seeds]
        name = self.contestant.name
        losses = ", ".join(f"seed {s}: {h:.4f} here, {t:.4f} there" for s, h, t in zip(seeds, here, there, strict=True))
        refused = f"the baseline {name} of {self.store.path} is not reached here ({losses})"
        if not all(map(math.isfinite, [*here, *there])):
            raise ValueError(f"{refused}: a run that diverged is no reference")
        try:
            found = repeated(here, there, [one for one in self.finals.values() if math.isfinite(one)], margin)
        except AnalysisError as error:
            raise ValueError(f"{refused}, and {error}") from None
        if not found.equivalent:
            far = found.low > margin or found.high < -margin
            remedy = "tune it here, without --baseline-from" if far else "more --baseline-seeds may decide"
            otherwise = trained_otherwise(self.runs[again[seeds[0]].id], again[seeds[0]])
            differs = f" (otherwise than there: {otherwise})" if otherwise else ""
            raise ValueError(
                f"{refused}: the difference {found.difference:+.4f} has the 95 % interval [{found.low:+.4f}, "
                f"{found.high:+.4f}], which is not within the margin of {margin:g} nats{differs}; {remedy}"
            )
        return BaselineSource(
            store=str(self.store.path),
            ledger=self.ledger.name,
            digest=hashlib.sha256(self.store.ledger_bytes(self.path)).hexdigest(),
            runs=len(self.runs) - len(seeds),
            seeds=tuple(seeds),
            again=tuple(here),
            stored=tuple(there),
            difference=found.difference,
            low=found.low,
            high=found.high,
            margin=margin,
        )

    def take(self, store: Store, again: Mapping[int, Run]) -> None:
        """Copy the runs that were trained again, and its others, into a store that has not finished them."""
        for run in again.values():
            _copy(run, store, {})
        for run in self.runs.values():
            _copy(run, store, {"taken_from": str(self.store.path)})


def _copy(run: Run, store: Store, facts: Mapping[str, str]) -> None:
    own = store.run(run.id)
    if not own.finished:
        environment = json.dumps({**run.environment, **facts}, indent=1)
        write_atomic(own.directory / "env.json", environment, durable=False)
        for name in KEPT:
            if run.has(name):
                write_atomic(own.directory / name, run.read(name).decode(), durable=False)


def _loss(run: Run) -> float:
    """inf for a run that diverged, or has no result."""
    summary = run.summary
    return math.inf if summary is None else loss_of(summary)


def check_options(options: CompareOptions) -> None:
    """Raises ValueError for options that ``--baseline-from`` does not go with."""
    if options.trainer is not None or options.save is not None:
        other = "--save" if options.trainer is None else "--trainer"
        raise ValueError(f"--baseline-from takes runs of fairstep's own trainer from a store; leave out {other}")
    at_least(options, 1, "baseline_seeds")
    if not 0 < options.baseline_margin < 1:
        raise ValueError(f"--baseline-margin must be between 0 and 1 nats, not {options.baseline_margin:g}")


def take_baseline(
    kept: Store, seeds: int, margin: float, study: Study, texts: Mapping[str, Text], store: Store, command: str
) -> tuple[StoredBaseline, BaselineSource] | None:
    """The baseline in the sound store ``kept``, whose runs are in ``store`` then; None if a run of the check failed in
    all its attempts, which is then said. Raises ValueError for a baseline that is refused."""
    launcher = launcher_of(study)
    own = study.contest(texts, launcher.threads)
    baseline = stored_baseline(kept, own, seeds)
    reference = Store(store.path / "reference").writable()

    def alone(contest: Contest) -> Contest:
        return baseline.reference(contest, seeds)

    said = f"to check the baseline {own.baseline} of {kept.path}, {seeds} of its final runs are trained again"
    if run_study(study, texts, reference, launcher, command, said, prepared=alone) is None:
        return None
    again = baseline.again(reference, own, seeds)
    source = baseline.checked(again, margin)
    baseline.take(store, again)
    screen.say(source.sentence(own.baseline))
    return baseline, source


def sound(path: Path) -> Store:
    """The store at ``path``. Raises ValueError for one that is damaged, or no folder."""
    store = Store(path)
    if not store.path.is_dir():
        raise ValueError(f"--baseline-from {path} is no folder; name a store")
    if said := next(wrong_with(store), None):
        raise ValueError(f"--baseline-from {path} is refused: {said.rstrip('.')}")
    return store


def stored_baseline(store: Store, contest: Contest, seeds: int) -> StoredBaseline:
    """The baseline of a contest of one cell, in a sound store, whose first ``seeds`` final runs are to be trained
    again. Raises ValueError that names what is missing or different."""
    path, name = store.path, contest.baseline
    ledgers = [(at, store.ledger_at(at)) for at in store.ledger_paths()]
    tuned = [(at, one) for at, one in ledgers if name in one.choices and one.choices[name].hyperparameters]
    if not tuned:
        known = dict.fromkeys(one for _, ledger in ledgers for one in ledger.choices)
        raise ValueError(f"--baseline-from {path} has no tuned {name}; it has {', '.join(known) or 'none'}")
    compared = [_read(store, at, ledger, contest) for at, ledger in tuned]
    wrong, chosen = min(compared, key=lambda pair: len(pair[0]))
    if wrong:
        field, (here, there) = next(iter(wrong.items()))
        raise ValueError(
            f"--baseline-from {path} is of another workload: {field} is {there} in its contest {chosen.ledger.name}, "
            f"and {here} here"
        )
    if lacking := [seed for seed in range(1, seeds + 1) if seed not in chosen.finals]:
        raise ValueError(
            f"--baseline-from {path} has no final run of {name} with seed {lacking[0]} to be trained again; it has the "
            f"seeds {', '.join(map(str, sorted(chosen.finals))) or 'of none'}; give another --baseline-seeds"
        )
    return chosen


FIRST = (
    "model.preset",
    "model",
    "data",
    "precision",
    "batch_sequences",
    "tokens",
    "evaluation.final_tokens",
    "schedule",
)
"""Fields from which others follow, so that they are named first."""

Differences = dict[str, tuple[Any, Any]]
"""Field -> its value here and in the store."""


def _read(store: Store, path: Path, ledger: Ledger, contest: Contest) -> tuple[Differences, StoredBaseline]:
    """The contest's baseline as a ledger has it, and how its runs differ from what this contest would train."""
    name, (workload,) = contest.baseline, contest.own_cells.values()
    proof, choice = ledger.certificates[name], ledger.choices[name].hyperparameters
    trials = [trial for trial in ledger.trials if trial.contestant == name]
    runs = {trial.run: store.run(trial.run) for trial in trials}
    specs = {identity: run.own_spec for identity, run in runs.items()}
    final = next((specs[trial.run] for trial in trials if trial.phase == "final"), None)
    if final is None:
        raise ValueError(f"--baseline-from {store.path} has no final run of {name} in its contest {ledger.name}")
    chosen = final.optimizer
    # Of some parameters alone, and searched after the others: earlier trials have them not.
    late = {key for key in choice if is_override(key)}
    fixed = {key: value for key, value in _unfilled(final).items() if key not in late}
    space = Space({key: axis for key, axis in space_of(proof).axes.items() if key not in late})
    contestant = Contestant(name, fixed, space, chosen.name, undecayed=chosen.undecayed)
    wrong: Differences = {}
    wanted: dict[str, list[Wanted]] = {"short": [], "tune": [], "final": [], "budget": []}
    finals: dict[int, float] = {}
    for trial in trials:
        spec = specs[trial.run]
        tokens = spec.tokens if trial.phase in ("short", "budget") or spec.tokens != workload.tokens else None
        wanted[trial.phase].append(Wanted(trial.hyperparameters, trial.phase, spec.init_seed, tokens))
        asked = workload.tokens if trial.phase == "final" else spec.tokens
        own = contestant.spec(workload, trial.hyperparameters, spec.init_seed, asked)
        if own.identity != spec.identity:
            wrong |= _differences(own, spec)
        if trial.phase == "final":
            finals[spec.init_seed] = _loss(runs[trial.run])
    failures = {trial.run: trial.failures for trial in trials if trial.failures}
    recorded = Recorded(proof, choice, tuple(wanted["tune"]), tuple(wanted["budget"]), failures, tuple(wanted["short"]))
    return wrong, StoredBaseline(store, path, ledger, contestant, recorded, runs, finals)


def _unfilled(spec: RunSpec) -> dict[str, Value]:
    """A run's hyperparameters without what ``OptimizerSpec.of_run`` filled in."""
    known, values = optim.get(spec.optimizer.name), spec.optimizer.hyperparameters
    lengths = {name: 0 for name in known.run_lengths if values.get(name) == spec.steps}
    dtype = "bfloat16" if spec.precision == "bf16" else "float32"
    return {**values, **lengths, **{name: "auto" for name in known.product_dtypes if values.get(name) == dtype}}


def _differences(here: Any, there: RunSpec) -> Differences:
    """What decides a run and is not equal, by field."""
    own, other = (flat(one.model_dump(mode="json")) for one in (here, there))
    elsewhere = ("execution.", "data.name", "data.source")
    fields = [field for field in dict.fromkeys([*own, *other]) if not field.startswith(elsewhere)]
    fields.sort(key=lambda field: next((n for n, one in enumerate(FIRST) if field.startswith(one)), len(FIRST)))
    pairs = {field: (own.get(field), other.get(field)) for field in fields}
    return {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}
