"""Carrying out a contest with a launcher that trains nothing: crashes, retries, resumption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from tests.study.test_contest import bowl, contest

from fairstep.cli.shared.watch import News
from fairstep.runs import Cell, Ledger, Run, RunSpec, Store, Summary
from fairstep.study import ContestError, Patience, Plan, State, carry_out, differences

OBJECTIVE = bowl({"adamw": 0.002, "muon": 0.004})


class Pretender:
    """A launcher that writes the summary at once, and fails the runs that it is told to, as often as it is told to."""

    def __init__(
        self,
        failing: dict[str, int] | None = None,
        stop_after: int | None = None,
        objective: Callable[[RunSpec], Summary] = OBJECTIVE,
    ) -> None:
        self.objective = objective
        self.started: Counter[str] = Counter()
        self.failing = failing or {}
        self.stop_after = stop_after
        self.queue: list[Run] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.queue.clear()

    @property
    def free(self) -> int:
        return 3 - len(self.queue)

    def start(self, run: Run) -> None:
        if self.stop_after is not None and self.started.total() >= self.stop_after:
            raise KeyboardInterrupt
        self.started[run.id] += 1
        self.queue.append(run)

    def cancel(self, identity: str) -> None:
        raise AssertionError("nothing here takes too long")

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        run = self.queue.pop(0)
        if self.started[run.id] <= self.failing.get(run.id, 0):
            yield {"event": "end", "run": run.id, "status": "failed", "message": "its process was killed by signal 9"}
            return
        yield {"event": "progress", "run": run.id, "step": 50, "steps": 100, "loss": 3.0, "tokens_per_second": 1.0}
        run.write_summary(self.objective(run.spec))
        yield {"event": "end", "run": run.id, "status": run.status, "message": ""}


def ledger() -> Ledger:
    cell = Cell(
        model="tiny",
        parameters_matrix=1,
        parameters=1,
        tokens=6400,
        batch_tokens=64,
        steps=100,
        data="text",
        fingerprint="ab",
        vocabulary=300,
        precision="float32",
    )
    return Ledger(name="test", command="", baseline="adamw", contestants=("adamw", "muon"), cell=cell)


def timeless(ledger: Ledger) -> Ledger:
    """The ledger without the times of its looks."""
    return ledger.model_copy(update={"looks": tuple(look.model_copy(update={"time": ""}) for look in ledger.looks)})


def carried(store: Store, launcher: Pretender, watch: Callable[[State], None] = lambda state: None) -> Ledger:
    return carry_out(contest(), {"": ledger()}, store, launcher, watch)[""]


def test_every_trial_is_carried_out_once_and_the_ledger_is_kept(tmp_path: Path) -> None:
    store, launcher = Store(tmp_path).writable(), Pretender()
    states: list[State] = []
    complete = carried(store, launcher, states.append)
    assert set(launcher.started.values()) == {1}
    assert len(complete.trials) == 16
    assert store.ledger("test") == complete
    assert complete.choices["adamw"].hyperparameters == {"lr": 0.002}
    assert states[-1].trials_done == states[-1].trials_total == 16
    assert states[-1].steps_done == states[-1].steps_total
    assert max(state.steps_done for state in states) == states[-1].steps_total


@pytest.mark.parametrize("stop_after", range(0, 16, 3))
def test_an_interrupted_contest_goes_on_and_ends_the_same(tmp_path: Path, stop_after: int) -> None:
    whole = carried(Store(tmp_path / "whole").writable(), Pretender())
    store, first, second = Store(tmp_path / "parts").writable(), Pretender(stop_after=stop_after), Pretender()
    with pytest.raises(KeyboardInterrupt):
        carried(store, first)
    finished = {run.id for run in store.runs() if run.finished}
    assert timeless(carried(store, second)) == timeless(whole)
    assert not finished & set(second.started)


def test_a_crashed_trial_is_tried_again(tmp_path: Path) -> None:
    plan = Plan(contest(), lambda spec: None)
    victim = next(iter(plan.trials.values())).trial.run
    launcher = Pretender(failing={victim: 1})
    carried(Store(tmp_path).writable(), launcher)
    assert launcher.started[victim] == 2


def test_failed_attempts_are_said_once_each_with_their_trial(tmp_path: Path) -> None:
    plan = Plan(contest(), lambda spec: None)
    victim = next(iter(plan.trials.values())).trial.run
    news, said = News(), list[str]()
    with pytest.raises(ContestError):
        carried(Store(tmp_path).writable(), Pretender({victim: 9}), lambda state: said.extend(news.failures(state)))
    words = "adamw tune: its process was killed by signal 9"
    assert said == [f"{words}; it is tried again", f"{words}; it is given up"]


def test_a_trial_that_keeps_failing_ends_in_words_and_loses_nothing(tmp_path: Path) -> None:
    plan = Plan(contest(), lambda spec: None)
    victim = next(iter(plan.trials.values())).trial.run
    store = Store(tmp_path).writable()
    with pytest.raises(ContestError, match=f"run {victim}: its process was killed by signal 9"):
        carried(store, Pretender(failing={victim: 9}))
    assert sum(run.finished for run in store.runs()) == 7 + 3  # muon's contest is complete but for the baseline


def test_a_failed_summary_is_not_a_result(tmp_path: Path) -> None:
    store, plan = Store(tmp_path).writable(), Plan(contest(), lambda spec: None)
    victim = next(iter(plan.trials.values())).trial.run
    store.run(victim).write_summary(Summary(status="failed", message="out of memory"))
    launcher = Pretender()
    carried(store, launcher)
    assert launcher.started[victim] == 1


class Silent(Pretender):
    """Its first attempt at a victim never says a word."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim, self.now = victim, 0.0
        self.cancelled: list[str] = []

    def clock(self) -> float:
        return self.now

    def cancel(self, identity: str) -> None:
        self.cancelled.append(identity)

    def events(self, timeout: float) -> Iterator[dict[str, Any]]:
        self.now += 10.0
        hung = [run for run in self.queue if run.id == self.victim and self.started[run.id] == 1]
        for run in hung:
            if run.id in self.cancelled:
                self.queue.remove(run)
                yield {"event": "end", "run": run.id, "status": "failed", "message": "cancelled"}
                return
        if len(self.queue) > len(hung):
            self.queue.sort(key=lambda run: run in hung)
            yield from super().events(timeout)


def test_a_silent_trial_is_cancelled_once_and_tried_again(tmp_path: Path) -> None:
    victim = next(iter(Plan(contest()).specs))
    launcher = Silent(victim)
    complete = carry_out(
        contest(),
        {"": ledger()},
        Store(tmp_path).writable(),
        launcher,
        patience=Patience(silence=55),
        clock=launcher.clock,
    )[""]
    assert launcher.cancelled == [victim]
    assert launcher.started[victim] == 2
    assert {trial.run: trial.failures for trial in complete.trials if trial.failures} == {victim: 1}


def test_failed_attempts_of_earlier_sittings_stay_in_the_ledger(tmp_path: Path) -> None:
    store, victim = Store(tmp_path).writable(), next(iter(Plan(contest()).specs))
    with pytest.raises(ContestError):
        carried(store, Pretender(failing={victim: 9}))
    complete = carried(store, Pretender())
    assert {trial.run: trial.failures for trial in complete.trials if trial.failures} == {victim: 2}


def test_the_ledger_holds_what_every_trial_cost(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    complete = carried(store, Pretender())
    assert {trial.status for trial in complete.trials} == {"done"}
    assert store.ledger("test") == complete
    assert set(complete.certificates) == {"adamw", "muon"}
    assert differences(complete) == []
    fewer = complete.model_copy(update={"trials": complete.trials[1:]})
    assert differences(fewer) == ["Tuning trials differ by 1: adamw 3, muon 4."]
