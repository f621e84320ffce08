"""Carrying out a contest: start the runs that its plan wants, wait, tell it their results, until it wants none."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fairstep.analysis.verdict.wording import plural
from fairstep.model.facts import flops_per_token
from fairstep.runs import AnyModelSpec, Design, Ledger, RunSpec, Store, Summary, write_atomic
from fairstep.study.launchers.base import Event, Launcher
from fairstep.study.tournament.contest import Contest, Results
from fairstep.study.tournament.family import within_family
from fairstep.study.tournament.ledgers import declared, ledgers
from fairstep.study.tournament.trials import Plan

LEAST_SILENCE = 600.0
"""Seconds that any trial may be silent, unless a study says otherwise."""

SLOWER = 20.0

SLOWEST = 1e10
"""FLOPs of the model a second, of a processor so slow that nobody would carry out a contest on it."""


class ContestError(RuntimeError):
    """The contest could not be completed; the message names the trial and what it said."""


@dataclass(frozen=True)
class Patience:
    """``attempts``: how often a trial that failed (crash, out of memory, hang: not a result) is started before the
    contest gives up on it. ``silence``: after so many seconds without a word from a trial it is cancelled, as failed.
    0: after ``LEAST_SILENCE``, or ``SLOWER`` times the longest silence of a trial of the same size that went on, or
    where none was heard of yet, what ten steps take at ``SLOWEST``."""

    attempts: int = 2
    silence: float = 0.0


@dataclass
class State:
    """What a watcher may show: the plan, the latest event of every running trial, and the optimizer steps that this
    call has trained, from which the time left follows. Steps and trials are those known to be wanted so far.
    ``failed``: attempts that came to nothing, as a run, what was said of its end, and whether it is tried again."""

    plan: Plan
    running: dict[str, Event] = field(default_factory=dict)
    steps_spent: int = 0
    failed: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def steps_done(self) -> int:
        return self.plan.steps_done + sum(event["step"] for event in self.running.values())

    @property
    def steps_total(self) -> int:
        return self.plan.steps_total

    @property
    def trials_done(self) -> int:
        return len(self.plan.summaries)

    @property
    def trials_total(self) -> int:
        return len(self.plan.specs)


def carry_out(
    contest: Contest,
    bases: Mapping[str, Ledger],
    store: Store,
    launcher: Launcher,
    watch: Callable[[State], None] = lambda state: None,
    patience: Patience = Patience(),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Ledger]:
    """Run the contest to its end and return its complete ledgers, by cell, which are also kept in the store on the way.

    ``bases`` are the ledgers without trials (names, command, cell): one for every cell of the contest.

    Finished runs of the store are never repeated. Raises ContestError when a trial failed in all its attempts; every
    other trial has then been carried out as far as possible.
    """
    return _Runner(contest, dict(bases), store, launcher, watch, patience, clock).run()


def results_of(store: Store) -> Results:
    """The results in a store; failed runs have none."""

    def results(identity: str) -> Summary | None:
        summary = store.run(identity).summary
        return None if summary is None or summary.status == "failed" else summary

    return results


def with_designs(bases: Mapping[str, Ledger], store: Store, design: Design) -> dict[str, Ledger]:
    """The bases with the designs that they are declared with in this store. Raises ValueError (``declared``)."""
    together = {base.name for base in bases.values()}  # the cells of one study do not ask one after the other
    others = [ledger for ledger in store.readable_ledgers() if ledger.name not in together]
    return {
        cell: declared(base, store.ledger(base.name), within_family(design, base, others))
        for cell, base in bases.items()
    }


def failures_of(store: Store, bases: Mapping[str, Ledger]) -> dict[str, int]:
    """Failed attempts that earlier ledgers of these names know of, by run: they are part of the cost."""
    earlier = [ledger for base in bases.values() if (ledger := store.ledger(base.name)) is not None]
    return {trial.run: trial.failures for ledger in earlier for trial in ledger.trials if trial.failures}


@functools.cache
def token_flops(model: AnyModelSpec) -> float:
    """FLOPs of forward and backward pass for a token."""
    return float(flops_per_token(model))


@dataclass
class _Runner:
    LEDGER_SHARE = 0.02
    """Part of the time that may go into keeping the ledgers on disk up to date; they follow from the runs."""

    contest: Contest
    bases: dict[str, Ledger]
    store: Store
    launcher: Launcher
    watch: Callable[[State], None]
    patience: Patience
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        store, design = self.store, self.contest.design
        self.bases = with_designs(self.bases, store, design)
        designs = {cell: base.design for cell, base in self.bases.items() if base.design is not None}
        self.contest = replace(self.contest, declared=designs)
        self.results = results_of(store)
        elsewhere = {run: count for one in self.contest.recorded.values() for run, count in one.failures.items()}
        self.plan = Plan(self.contest, self.results, elsewhere | failures_of(store, self.bases))
        self.state = State(self.plan)
        self.attempts: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.last_heard: dict[str, float] = {}
        self.longest_silence: dict[float, float] = {}
        """Seconds between two words of a trial that went on, by the size of its steps."""
        self.impatient: dict[str, str] = {}
        """Why a run was cancelled."""
        self.elsewhere: set[str] = set()
        """Runs that another process trains, perhaps on another machine over the same store."""
        self.look_again = self.write_again = 0.0
        self.checked_silence = -math.inf
        self.looks_kept = 0
        """Looks that are in the ledgers on disk; a new one is written at once, so that no killed process hides it."""

    def run(self) -> dict[str, Ledger]:
        self.keep_ledgers()
        while True:
            self.start_wanted()
            if not self.state.running and not self.elsewhere:
                break
            self.watch(self.state)
            for event in self.launcher.events(timeout=0.5):
                self.hear(event)
            self.cancel_silent()
            self.look_elsewhere()
            self.keep_ledgers()
        self.watch(self.state)
        complete = self.keep_ledgers(at_once=True)
        if self.failures:
            identity, message = next(iter(self.failures.items()))
            failed = f"{plural(len(self.failures), 'trial')} failed {plural(self.patience.attempts, 'time')}"
            raise ContestError(f"{failed}, so there is no verdict; run {identity}: {message}")
        return complete

    def start_wanted(self) -> None:
        while self.launcher.free > 0:
            identity = self.plan.take()
            if identity is None:
                return
            run, spec = self.store.run(identity), self.plan.specs[identity]
            if self.found(identity):
                continue
            if run.locked:
                self.elsewhere.add(identity)
                continue
            write_atomic(run.directory / "spec.json", spec.to_json(), durable=False)
            self.launcher.start(run)
            self.attempts[identity] += 1
            self.state.running[identity] = {"step": 0, "steps": spec.steps}
            self.last_heard[identity] = self.clock()

    def found(self, identity: str) -> bool:
        """Whether a run has got its result in the meantime, by another process; the plan is told."""
        summary = self.results(identity)
        if summary is not None:
            self.plan.tell(identity, summary)
        return summary is not None

    def look_elsewhere(self) -> None:
        """A run that another process trained has its result, or is ours if that process is gone. Looks every second."""
        if not self.elsewhere or time.monotonic() < self.look_again:
            return
        self.look_again = time.monotonic() + 1
        for identity in list(self.elsewhere):
            if self.found(identity):
                self.elsewhere.remove(identity)
            elif not self.store.run(identity).locked:
                self.elsewhere.remove(identity)
                self.plan.put_back(identity)

    def hear(self, event: Event) -> None:
        identity = event.get("run", "")
        running = self.state.running
        if identity not in running:
            return
        if event["event"] == "waiting":
            self.last_heard[identity] = math.inf
        elif event["event"] in ("begin", "note"):
            self.last_heard[identity] = self.clock()
        elif event["event"] == "progress":
            self.state.steps_spent += event["step"] - running[identity]["step"]
            running[identity] = event
            size, now = self.step_flops(identity), self.clock()
            silence = now - self.last_heard[identity]
            self.longest_silence[size] = max(silence, self.longest_silence.get(size, 0.0))
            self.last_heard[identity] = now
        elif event["event"] == "end":
            del running[identity]
            del self.last_heard[identity]
            impatient, summary = self.impatient.pop(identity, ""), self.store.run(identity).unchecked_summary
            if summary is not None and summary.status != "failed":
                self.plan.tell(identity, summary)
                return
            self.plan.count_failure(identity)
            message = impatient or event["message"]
            again = self.attempts[identity] < self.patience.attempts
            self.state.failed.append((identity, message, again))
            if again:
                self.plan.put_back(identity)
            else:
                self.failures[identity] = message

    def cancel_silent(self) -> None:
        """Cancel the runs that have said nothing for too long."""
        now = self.clock()
        if now - self.checked_silence < 1:
            return
        self.checked_silence = now
        for identity, last in self.last_heard.items():
            limit = self.allowed_silence(identity)
            if now - last >= limit:
                self.impatient[identity] = f"it was cancelled, as nothing was heard of it for {limit:.0f} s"
                self.launcher.cancel(identity)
                self.last_heard[identity] = now  # and once more, if the cancelling is not heard of

    def allowed_silence(self, identity: str) -> float:
        if self.patience.silence:
            return self.patience.silence
        size = self.step_flops(identity)
        heard = self.longest_silence.get(size)
        return max(LEAST_SILENCE, 10 * size / SLOWEST if heard is None else SLOWER * heard)

    def step_flops(self, identity: str) -> float:
        """Of the model, in one step of the run; of somebody else's trainer nothing is known."""
        spec = self.plan.specs[identity]
        return token_flops(spec.model) * spec.batch_tokens if isinstance(spec, RunSpec) else 0.0

    def keep_ledgers(self, at_once: bool = False) -> dict[str, Ledger]:
        began = time.perf_counter()
        looks = sum(len(standing.looks) for standing in self.plan.standings.values())
        if not at_once and looks == self.looks_kept and began < self.write_again:
            return {}
        self.looks_kept = looks
        complete = ledgers(self.plan, self.bases)
        for cell, ledger in complete.items():
            self.store.write_ledger(ledger)
            self.bases[cell] = self.bases[cell].model_copy(update={"looks": ledger.looks})  # with their times
        ended = time.perf_counter()
        self.write_again = ended + (ended - began) / self.LEDGER_SHARE
        return complete


__all__ = ["ContestError", "Patience", "State", "carry_out", "results_of"]
