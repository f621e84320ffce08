"""Contests that look after each seed: who is trained on, when they end, and what the ledger keeps."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.study.test_contest import SPACE, WORKLOAD, bowl, carried_out
from tests.study.test_runner import Pretender, ledger, timeless

from fairstep.analysis import Trials, verdicts
from fairstep.runs import Ledger, RunSpec, Store, Summary
from fairstep.study import Contest, Contestant, Plan, carry_out

NAMES = ("adamw", "muon", "lion")


def contest(seeds: int | str, names: tuple[str, ...] = NAMES, refine: bool = False) -> Contest:
    contestants = tuple(Contestant(name, {"lr": 0.002}, SPACE) for name in names)
    return Contest({"": WORKLOAD}, contestants, "adamw", seeds=seeds, budgets=(), refine=refine)


def noisy(spec: RunSpec) -> Summary:
    """One contestant is far better than the others, which are equal."""
    name, lr = spec.optimizer.name, float(spec.optimizer.hyperparameters["lr"])
    noise = random.Random(f"{name} {spec.init_seed} {spec.data_seed}").gauss(0, 0.01)
    loss = 3 + 0.05 * math.log2(lr / 0.002) ** 2 + noise - (0.5 if name == "muon" else 0)
    return Summary(status="done", final_loss=loss, steps=spec.steps, tokens=spec.steps * spec.batch_tokens)


def finals(plan: Plan) -> dict[str, list[int]]:
    return {
        name: sorted(
            plan.specs[entry.trial.run].init_seed
            for entry in plan.trials.values()
            if entry.trial.phase == "final" and entry.trial.contestant == name
        )
        for name in NAMES
    }


def test_the_decided_one_stops_and_the_others_go_on_to_the_end() -> None:
    plan, _ = carried_out(contest("3..6"), noisy)
    assert finals(plan) == {"adamw": [1, 2, 3, 4, 5, 6], "muon": [1, 2, 3], "lion": [1, 2, 3, 4, 5, 6]}
    looks = {name: standing.looks for (_, name), standing in plan.standings.items()}
    assert [(look.pairs, look.verdict) for look in looks["muon"]] == [(3, "faster")]
    assert [look.pairs for look in looks["lion"]] == [3, 4, 5, 6]
    assert {look.level for look in looks["lion"]} == {0.05}, "the alpha of the decided one was handed on"
    assert all(standing.complete for standing in plan.standings.values())


def test_the_order_of_results_does_not_matter() -> None:
    whole, _ = carried_out(contest("3..6"), noisy)
    for seed in range(3):
        plan, _ = carried_out(contest("3..6"), noisy, random.Random(seed))
        assert finals(plan) == finals(whole)
        assert plan.choices == whole.choices


def test_a_contest_whose_contestants_are_all_decided_ends() -> None:
    plan, _ = carried_out(contest("3..12", NAMES[:2]), noisy)
    assert finals(plan)["adamw"] == [1, 2, 3]


def test_one_number_is_one_look_at_all_seeds() -> None:
    plan, _ = carried_out(contest(4), noisy)
    assert finals(plan) == {name: [1, 2, 3, 4] for name in NAMES}


def test_a_refined_search_tries_two_more_rates() -> None:
    plan, _ = carried_out(contest(2, refine=True), bowl(dict.fromkeys(NAMES, 0.0027)))
    tried = {float(e.trial.hyperparameters["lr"]) for e in plan.trials.values() if e.trial.contestant == "muon"}
    assert tried == {0.001, 0.002, 0.004, 0.008, 0.00282843, 0.00141421}
    assert plan.choices["", "muon"].hyperparameters["lr"] == 0.00282843


def test_the_baseline_is_tuned_again_at_its_longest_budget() -> None:
    short = contest(2, NAMES[:2], refine=True)
    budgets = (0.5, 1.4, 2.0)
    contestants = short.contestants
    longer = Contest(short.cells, contestants, "adamw", seeds=2, budgets=budgets, budget_seeds=2, refine=True)

    def objective(spec: RunSpec) -> Summary:
        best = 0.004 if spec.tokens > 1.2 * WORKLOAD.tokens else 0.002
        lr = float(spec.optimizer.hyperparameters["lr"])
        return Summary(status="done", final_loss=3 + math.log2(lr / best) ** 2, steps=spec.steps)

    plan, _ = carried_out(longer, objective)
    listed = [entry.trial for entry in plan.trials.values() if entry.trial.phase == "budget"]
    specs = [plan.specs[trial.run] for trial in listed]
    rates = [trial.hyperparameters["lr"] for trial in listed]
    trained = sorted((s.tokens / WORKLOAD.tokens, s.init_seed, lr) for s, lr in zip(specs, rates, strict=True))
    short_runs = [(0.5, 1, 0.002), (0.5, 2, 0.002), (1.4, 1, 0.002), (1.4, 2, 0.002)]
    searched = [(2.0, 0, 0.001), (2.0, 0, 0.002), (2.0, 0, 0.004)]
    assert trained == [*short_runs, *searched, (2.0, 1, 0.004), (2.0, 2, 0.004)]


def bases() -> dict[str, Ledger]:
    return {"": ledger().model_copy(update={"contestants": NAMES})}


def carried(seeds: int | str, store: Store, stop_after: int | None = None) -> Ledger:
    return carry_out(contest(seeds), bases(), store, Pretender(objective=noisy, stop_after=stop_after))[""]


def test_more_seeds_go_on_in_the_same_ledger_and_say_so(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    first = carried(3, store)
    assert (str(first.design), len(first.looks)) == ("3", 2)
    second = carried("4..6", store)
    assert [str(design) for design in second.earlier_designs] == ["3"] and str(second.design) == "4..6"
    assert first.looks == second.looks[:2], "looks that were taken stay as they were"
    assert sorted({look.pairs for look in second.looks}) == [3, 4, 5, 6]
    judged = {verdict.name: verdict for verdict in verdicts(Trials.read(second, store.runs()))}
    assert (judged["muon"].verdict, judged["lion"].verdict) == ("faster", "not separable")
    assert timeless(carried("4..6", store)) == timeless(second)


def test_a_design_that_goes_on_cannot_change(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    with pytest.raises(KeyboardInterrupt):
        carried("3..6", store, stop_after=3 * 4 + 3 * 3 + 1)
    refused = r"has the design 3\.\.6 and was looked at with 3 seeds, so it cannot become 3\.\.9"
    with pytest.raises(ValueError, match=refused):
        carried("3..9", store)
    done = carried("3..6", store)
    with pytest.raises(ValueError, match=r"already used its design 3\.\.6; 5 has no further seed"):
        carried(5, store)
    assert store.ledger("test") == done


def test_a_look_keeps_the_time_at_which_it_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the time at which the contest ended."""
    from fairstep.study.tournament import ledgers

    class Clock:
        hour = 0

        @classmethod
        def now(cls, zone: object) -> datetime:
            cls.hour += 1
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=cls.hour)

    monkeypatch.setattr(ledgers, "datetime", Clock)
    times = {look.pairs: look.time for look in carried("3..6", Store(tmp_path).writable()).looks}
    assert times[3] < times[4] < times[5] < times[6]
