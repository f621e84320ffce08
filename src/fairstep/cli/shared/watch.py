"""The progress of a contest on the terminal: one bar for all of it, a line for each running trial."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import TaskID, TaskProgressColumn, TextColumn

from fairstep.cli.shared import screen
from fairstep.cost.run_cost import Cost
from fairstep.runs import Summary, Trial
from fairstep.runs.certificate import words
from fairstep.study import State
from fairstep.study.forecast.games import forecast
from fairstep.study.tournament.contest import Contest
from fairstep.study.workload import Workload


@dataclass(frozen=True)
class Expected:
    """Trials that a contest will probably take, and the least and the most work, in units of ``News``."""

    trials: int
    least: float
    most: float

    @classmethod
    def of(cls, contest: Contest, costs: Mapping[tuple[str, str], Cost]) -> Expected:
        """From games on random objectives, as ``fairstep study plan`` has them."""
        games = forecast(contest, costs)
        spreads = [
            (games.spread(cell), one.model.token_work if isinstance(one, Workload) else 1.0)
            for cell, one in contest.cells.items()
        ]
        return cls(
            games.spread().expected.trials,
            sum(spread.least.tokens * work for spread, work in spreads),
            sum(spread.most.tokens * work for spread, work in spreads),
        )


@contextmanager
def watching(expected: Expected, every_trial: bool = False) -> Iterator[Callable[[State], None]]:
    """Yield the function that a contest's runner calls. Where there is no terminal it says a line a minute instead;
    ``every_trial``: and one for every trial that ends while we watch. Failed attempts are said everywhere."""
    began, last_said = time.monotonic(), 0.0
    with screen.progress(TaskProgressColumn(), TextColumn("{task.fields[note]}")) as bar:
        total = bar.add_task("contest", total=1, note="starting")
        rows: dict[str, TaskID] = {}
        news = News()

        def show(state: State) -> None:
            nonlocal last_said
            elapsed = time.monotonic() - began
            ended = news.hear(state)
            trials = max(expected.trials, state.trials_total)
            note = f"{state.trials_done} of about {trials} trials{time_left(state, news, elapsed, expected)}"
            whole = max(news.work_known, (expected.least + expected.most) / 2)
            bar.update(total, completed=news.work_done(state), total=whole, note=note)
            for identity in list(rows):
                if identity not in state.running:
                    bar.remove_task(rows.pop(identity))
            for identity, event in state.running.items():
                place, trial = state.plan.roles(identity)[0]
                best = news.best_text(place, trial.contestant)
                if identity not in rows:
                    title = f"  {place} {trial.contestant} {trial.phase}".replace("   ", "  ")
                    rows[identity] = bar.add_task(title, total=event["steps"], note=best)
                if "loss" in event:
                    rate = f"{event['tokens_per_second'] / 1e3:.1f}k tokens/s"
                    bar.update(rows[identity], completed=event["step"], note=f"loss {event['loss']:.3f}, {rate}{best}")
            for sentence in news.failures(state):
                screen.say(f"{elapsed:.0f} s: {sentence}")
            if screen.errors.is_terminal:
                return
            if every_trial and last_said:
                for sentence in ended:
                    screen.say(f"{elapsed:.0f} s: {sentence}")
            if elapsed - last_said >= 60 or (every_trial and not last_said):
                last_said = max(elapsed, 1e-9)
                screen.say(f"{elapsed:.0f} s: {note}")

        yield show


class News:
    """What has ended since the last look: the best loss of every contestant in every cell, and the work done, in
    tokens times parameters, since trials of different cells take different times."""

    def __init__(self) -> None:
        self.best: dict[tuple[str, str], float] = {}
        self.work: dict[str, float] = {}
        self.work_known = self.work_ended = self.work_before = 0.0
        self._heard = self._failed = 0

    def hear(self, state: State) -> list[str]:
        """A sentence for each trial that ended."""
        first = not self._heard and not self.work
        for identity, spec in itertools.islice(state.plan.specs.items(), len(self.work), None):
            self.work[identity] = spec.work
            self.work_known += self.work[identity]
        said = []
        for identity, summary in itertools.islice(state.plan.summaries.items(), self._heard, None):
            self.work_ended += self.work[identity]
            for cell, trial in state.plan.roles(identity):
                said.append(self._ended(cell, trial, summary))
        self._heard = len(state.plan.summaries)
        if first:
            self.work_before = self.work_ended
        return said

    def failures(self, state: State) -> list[str]:
        """A sentence for each attempt that failed."""
        said = []
        for identity, message, again in state.failed[self._failed :]:
            cell, trial = state.plan.roles(identity)[0]
            then = "it is tried again" if again else "it is given up"
            said.append(f"{cell} {trial.contestant} {trial.phase}: {message}; {then}".strip())
        self._failed = len(state.failed)
        return said

    def work_done(self, state: State) -> float:
        """With the part of the running trials that is over."""
        return self.work_ended + sum(
            self.work[identity] * event["step"] / event["steps"] for identity, event in state.running.items()
        )

    def best_text(self, cell: str, contestant: str) -> str:
        best = self.best.get((cell, contestant))
        return "" if best is None else f", best {best:.4f}"

    def _ended(self, cell: str, trial: Trial, summary: Summary) -> str:
        loss, place = summary.final_loss, (cell, trial.contestant)
        if trial.phase == "tune" and loss is not None:
            self.best[place] = min(loss, self.best.get(place, math.inf))
        outcome = f"loss {loss:.4f}" if loss is not None else "diverged"
        with_ = f" {words(trial.hyperparameters)}:" if trial.hyperparameters else ""
        return (
            f"{cell} {trial.contestant} {trial.phase}:{with_} {outcome}{self.best_text(cell, trial.contestant)}".strip()
        )


def time_left(state: State, news: News, elapsed: float, expected: Expected) -> str:
    """From the pace of this call. How many trials are still to come follows from results that nobody has yet, so it is
    a range: what is known to be wanted, or the least that was expected, up to the most."""
    done = news.work_done(state)
    if state.steps_spent < 20 or not state.running or done <= news.work_before:
        return ""
    pace = elapsed / (done - news.work_before)
    low, high = (pace * (max(news.work_known, work) - done) for work in (expected.least, expected.most))
    divisor, unit = (3600, "h") if high >= 5400 else (60, "min") if high >= 60 else (1, "s")
    ends = [f"{seconds / divisor:.{1 if seconds < 10 * divisor and divisor > 1 else 0}f}" for seconds in (low, high)]
    return f", about {' to '.join(dict.fromkeys(ends))} {unit} left"
