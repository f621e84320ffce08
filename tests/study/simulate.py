"""A launcher of simulated workers in simulated time: a study at scale in seconds, with everything that goes wrong.

It writes the same files that real runs leave behind, so a contest that it carries out is resumed, reported and
certified like any other. Time is the simulation's: pass ``launcher.clock`` to ``carry_out``.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from tests.study.played import summary_of

from fairstep.runs import Run, RunSpec, write_atomic
from fairstep.study.launchers.base import Event


class SchedulerDied(RuntimeError):
    """The simulated end of the process that was running the study."""


@dataclass
class SimulatedLauncher:
    """``answer`` gives a run's loss. ``failures`` and ``hangs`` are probabilities of an attempt. ``dies_after`` so many
    starts the scheduler itself ends, and everything that was running is lost."""

    answer: Callable[[RunSpec], float]
    workers: int = 200
    seconds: float = 100.0
    failures: float = 0.05
    hangs: float = 0.02
    dies_after: int = 0
    seed: int = 0
    started: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    now: float = 0.0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._running: dict[str, Run] = {}
        self._ends: list[tuple[float, int, str, str]] = []
        self._said: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.clear()

    threads = 1

    def __str__(self) -> str:
        return f"simulated, {self.workers} workers"

    def clock(self) -> float:
        """Simulated seconds."""
        return self.now

    @property
    def free(self) -> int:
        return self.workers - len(self._running)

    def start(self, run: Run) -> None:
        total = self.started.total()
        if self.dies_after and total >= self.dies_after:
            raise SchedulerDied
        self.started[run.id] += 1
        self._running[run.id] = run
        fate = self._draw.random()
        if fate < self.hangs:
            return
        outcome = "failed" if fate < self.hangs + self.failures else "done"
        end = self.now + self.seconds * self._draw.uniform(0.5, 1.5)
        heapq.heappush(self._ends, (end, total, run.id, outcome))

    def events(self, timeout: float) -> Iterator[Event]:
        """Everything up to the next end of a run; where all hang, a minute passes."""
        if not self._said:
            self.now = max(self.now, self._ends[0][0]) if self._ends else self.now + 60
        while self._ends and self._ends[0][0] <= self.now:
            _, _, identity, outcome = heapq.heappop(self._ends)
            run = self._running.pop(identity, None)
            if run is None:
                continue
            if outcome == "failed":
                self._fail(identity, "its process was killed by signal 9")
            else:
                spec = run.spec
                summary = summary_of(spec, self.answer(spec), self.seconds)
                write_atomic(run.directory / "summary.json", summary.model_dump_json(), durable=False)
                self._said.append({"event": "end", "run": identity, "status": "done", "message": ""})
        said, self._said = self._said, []
        yield from said

    def cancel(self, identity: str) -> None:
        if self._running.pop(identity, None) is not None:
            self._fail(identity, "it was cancelled")

    def _fail(self, identity: str, message: str) -> None:
        self.failed[identity] += 1
        self._said.append({"event": "end", "run": identity, "status": "failed", "message": message})
