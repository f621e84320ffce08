"""From results to the trials that are wanted now: the searches of a contest, run as far as results allow.

A plan is a pure function of results. ``Plan(contest, results)`` on the runs of a store, and ``tell`` with one result
after the other in any order, end in the same trials and choices. A result costs only the work that it causes: no search
is run twice, and nothing grows with the number of trials known.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairstep.runs import Choice, Phase, Spec, Summary, Trial
from fairstep.study.protocols.search import Ask, InEveryCell, OfEvery, Search, Settled, Tuning, Wanted
from fairstep.study.tournament.contest import Contest, Contestant, Results
from fairstep.study.tournament.finals import Standing, choose, confirm, look_on

ORDER: dict[Phase, int] = {"short": 0, "tune": 0, "budget": 1, "final": 2}
"""Within a phase the longest run starts first, so that the last workers end together."""


@dataclass
class ListedTrial:
    """A trial of the plan with its cost, known once it has a result."""

    cell: str
    trial: Trial


@dataclass(eq=False)
class _Task:
    """A search that is being run, and what it waits for."""

    search: Search[Any]
    contestant: Contestant
    cell: str = ""
    parent: _Task | None = None
    slot: Any = None
    answers: Any = None
    waiting: int = 0


class Plan:
    """Trials known so far in the order in which they came up, and the choices made. A trial is listed once.

    ``failures``: attempts at runs that are known to have come to nothing, by identity.
    """

    def __init__(
        self, contest: Contest, results: Results = lambda run: None, failures: Mapping[str, int] | None = None
    ) -> None:
        self.contest = contest
        self.trials: dict[tuple[str, str, Phase, str], ListedTrial] = {}
        self.standings: dict[tuple[str, str], Standing] = {}
        self.specs: dict[str, Spec] = {}
        self.summaries: dict[str, Summary] = {}
        self.steps_done = self.steps_total = 0
        self._results, self._failures = results, failures or {}
        self._waiters: dict[str, list[tuple[_Task, int]]] = {}
        self._entries: dict[str, list[ListedTrial]] = {}
        self._queue: list[tuple[int, int, int, str]] = []
        self._ready: deque[tuple[_Task, Any]] = deque()
        self._count = itertools.count()
        self._contestants = {contestant.name: contestant for contestant in contest.contestants}
        self._confirmed: dict[str, dict[str, Standing]] = {}
        for contestant in contest.contestants:
            self._begin(_Task(contest.search(contestant.name, contest.problems(contestant)), contestant))
        self._run()

    # What is known.

    @property
    def finished(self) -> bool:
        return not self._waiters

    @property
    def choices(self) -> dict[tuple[str, str], Choice]:
        """By (cell, contestant), once chosen. ``hyperparameters`` is empty when everything tried diverged."""
        choices = {}
        for place, standing in self.standings.items():
            best = standing.chosen
            edge = best is None or bool(standing.tuning.space.edges(best))
            choices[place] = Choice(
                hyperparameters={} if best is None else best, at_edge=edge, notes=tuple(standing.tuning.notes)
            )
        return choices

    def missing(self) -> list[Spec]:
        """Specs without a result, each once, in the order in which they should be started."""
        return [self.specs[item[-1]] for item in sorted(self._queue) if item[-1] in self._waiters]

    def roles(self, identity: str) -> list[tuple[str, Trial]]:
        """What a run is for: cells and trials."""
        return [(entry.cell, entry.trial) for entry in self._entries.get(identity, [])]

    # What changes.

    def take(self) -> str | None:
        """The run to start next; every one is given once, unless it is put back."""
        while self._queue:
            identity = heapq.heappop(self._queue)[-1]
            if identity in self._waiters:
                return identity
        return None

    def put_back(self, identity: str) -> None:
        """A trial that failed is wanted still."""
        self._push(self._entries[identity][0].trial.phase, identity)

    def count_failure(self, identity: str) -> None:
        """An attempt at a trial came to nothing."""
        for entry in self._entries[identity]:
            entry.trial = entry.trial.model_copy(update={"failures": entry.trial.failures + 1})

    def tell(self, identity: str, summary: Summary) -> None:
        """A trial's result; told twice it counts once. Everything that follows from it is planned."""
        if identity in self.summaries or identity not in self.specs:
            return
        self._finish(identity, summary)
        for entry in self._entries[identity]:
            self._account(entry, summary)
        for task, place in self._waiters.pop(identity, []):
            self._answer(task, place, loss_of(summary))
        self._run()

    # How searches are run.

    def _begin(self, task: _Task) -> None:
        self._ready.append((task, None))

    def _run(self) -> None:
        while self._ready:
            task, value = self._ready.popleft()
            try:
                request = task.search.send(value)
            except StopIteration as end:
                if task.parent is not None:
                    self._answer(task.parent, task.slot, end.value)
                continue
            if isinstance(request, InEveryCell | OfEvery):
                task.answers, task.waiting = {}, len(request.searches)
                for name, search in request.searches.items():
                    if isinstance(request, InEveryCell):
                        self._begin(_Task(search, task.contestant, name, task, name))
                    else:
                        self._begin(_Task(search, self._contestants[name], task.cell, task, name))
                if not request.searches:
                    self._ready.append((task, {}))
            elif isinstance(request, Settled):
                self._settle(task, request.tuning)
            else:
                self._ask(task, request)

    def _answer(self, task: _Task, slot: Any, value: Any) -> None:
        task.answers[slot] = value
        task.waiting -= 1
        if task.waiting == 0:
            self._ready.append((task, task.answers))

    def _settle(self, task: _Task, tuning: Tuning) -> None:
        standing = Standing(task.cell, task.contestant.name, tuning)
        self._begin(_Task(self._conclude(standing), task.contestant, task.cell))
        self._ready.append((task, None))

    def _ask(self, task: _Task, ask: Ask) -> None:
        task.answers, task.waiting = [math.nan] * len(ask.trials), 0
        for place, wanted in enumerate(ask.trials):
            identity = self._add(task, wanted)
            if identity in self.summaries:
                task.answers[place] = loss_of(self.summaries[identity])
            elif identity:
                task.waiting += 1
                self._waiters.setdefault(identity, []).append((task, place))
        if task.waiting == 0:
            self._ready.append((task, task.answers))

    def _add(self, task: _Task, wanted: Wanted) -> str:
        """List a trial, with its result if there is one already. Returns its run, or nothing if it cannot be run."""
        workload = self.contest.cells[task.cell]
        try:
            spec = task.contestant.spec(workload, wanted.configuration, wanted.seed, wanted.tokens)
        except ValueError:
            return ""
        identity = spec.identity
        place = (task.cell, task.contestant.name, wanted.phase, identity)
        if place in self.trials:
            return identity
        trial = Trial(
            contestant=task.contestant.name,
            phase=wanted.phase,
            run=identity,
            hyperparameters=dict(wanted.configuration),
            failures=self._failures.get(identity, 0),
        )
        entry = self.trials[place] = ListedTrial(task.cell, trial)
        self._entries.setdefault(identity, []).append(entry)
        if identity not in self.specs:
            self.specs[identity] = spec
            self.steps_total += spec.steps
            summary = self._results(identity)
            if summary is None:
                self._push(wanted.phase, identity)
            else:
                self._finish(identity, summary)
        if identity in self.summaries:
            self._account(entry, self.summaries[identity])
        return identity

    def _finish(self, identity: str, summary: Summary) -> None:
        self.summaries[identity] = summary
        self.steps_done += self.specs[identity].steps

    def _push(self, phase: Phase, identity: str) -> None:
        heapq.heappush(self._queue, (ORDER[phase], -self.specs[identity].tokens, next(self._count), identity))

    @staticmethod
    def _account(entry: ListedTrial, summary: Summary) -> None:
        cost = {"tokens": summary.tokens, "seconds": summary.train_seconds, "status": summary.status}
        entry.trial = entry.trial.model_copy(update=cost)

    def _conclude(self, standing: Standing) -> Search[None]:
        yield from choose(self.contest, standing)
        self.standings[standing.cell, standing.contestant] = standing
        yield from confirm(self.contest, standing)
        confirmed = self._confirmed.setdefault(standing.cell, {})
        confirmed[standing.contestant] = standing
        if len(confirmed) == len(self._contestants):
            base = self._contestants[self.contest.baseline]
            in_order = {name: confirmed[name] for name in self._contestants}
            self._begin(_Task(look_on(self.contest, in_order), base, standing.cell))


def loss_of(summary: Summary) -> float:
    """A diverged trial is a result: an infinite loss."""
    return math.inf if summary.final_loss is None else summary.final_loss
