"""Verdicts from trials: which runs count, what is said when they do not suffice, and what is refused."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.analysis import AnalysisError, Verdict, contest_result, headline, verdicts
from fairstep.runs import Choice, EvaluationSpec
from fairstep.runs.table import trial_table

if TYPE_CHECKING:
    from tests.conftest import FakeContest

KEYS = {"name", "loss", "loss_low", "loss_high", "speedup", "speedup_low", "speedup_high", "verdict"} | {
    *("step_seconds", "optimizer_seconds", "state_bytes", "trials", "tokens_spent")
}


def judge(contest: FakeContest) -> dict[str, Verdict]:
    trials = trial_table(contest.ledger, contest.store.runs())
    return {verdict.name: verdict for verdict in verdicts(trials, contest.baseline)}


def result(contest: FakeContest) -> dict[str, Any]:
    return contest_result(contest.ledger, contest.store.runs())


def test_every_outcome(demo_contest: FakeContest) -> None:
    found = judge(demo_contest)
    assert {name: verdict.verdict for name, verdict in found.items()} == {
        "soap": "faster",
        "muon": "faster",
        "lion": "not separable",
        "adamw": "baseline",
        "sgd": "slower",
        "wild": "diverged",
    }
    assert next(iter(found)) == "soap", "lowest loss first"
    assert list(found)[-1] == "wild", "no loss, last"
    assert found["muon"].speedup_low > 1
    assert found["sgd"].speedup_high < 1
    assert found["lion"].speedup_low < 1 < found["lion"].speedup_high
    assert found["soap"].speedup_bound == "at least"
    assert found["adamw"].speedup == 1.0


def test_tuning_losses_never_count(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.80, 2.815, 2.785])
    before = judge(fake_contest)["muon"]
    fake_contest.add("muon", "tune", 1.0, lr=0.7)
    after = judge(fake_contest)["muon"]
    assert (after.loss, after.verdict) == (before.loss, "not separable")
    assert after.trials == before.trials + 1


def test_a_final_that_the_search_had_used_is_not_fresh(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.70, 2.71, 2.69])
    fake_contest.add("muon", "final", 1.0, seed=0)  # the same spec as the middle of its sweep
    muon = judge(fake_contest)["muon"]
    assert muon.seeds == 3
    assert muon.loss == pytest.approx(2.70)
    assert any("not counted" in note for note in result(fake_contest)["notes"])


def test_costs_are_counted_once_and_apart_from_the_curve(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79], grid=5)
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    fake_contest.add("adamw", "tune", None, lr=0.3, status="failed", message="out of memory")
    adamw = judge(fake_contest)["adamw"]
    tokens = fake_contest.tokens
    assert (adamw.trials, adamw.tuning_trials, adamw.budget_trials) == (8, 5, 2)
    assert adamw.tokens_spent == 7 * tokens + tokens // 10, "the diverged trial stopped at a tenth"
    assert adamw.budget_tokens == pytest.approx(2.5 * tokens)


def test_load_is_no_speedup_in_time(fake_contest: FakeContest) -> None:
    """An optimizer's part is 1/8 of every step here, however long other programs make the step."""
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    for seed, seconds in ((1, 0.01), (2, 0.02), (3, 0.5)):
        fake_contest.add("muon", "final", 2.7 + seed / 1000, seed=seed, step_seconds=seconds)
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    found = judge(fake_contest)
    adamw, muon = found["adamw"], found["muon"]
    assert muon.step_seconds == pytest.approx(adamw.step_seconds) == pytest.approx(0.01)
    assert muon.optimizer_seconds == pytest.approx(0.00125)
    assert muon.time_speedup == pytest.approx(muon.speedup)
    assert (muon.time_speedup_low, muon.time_speedup_high) == pytest.approx((muon.speedup_low, muon.speedup_high))
    assert muon.time_verdict == muon.verdict == "faster"


def test_divergence_is_reported_and_never_averaged_away(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("wild", [2.0, None, 2.0])
    wild = judge(fake_contest)["wild"]
    assert (wild.verdict, wild.row()["loss"]) == ("diverged", None)
    assert wild.final_losses == (2.0, None, 2.0)
    assert "1 of 3 final runs diverged" in wild.reason
    assert "given no divergence it is 0.795 nats below adamw" in wild.reason
    assert "wild diverged" in headline(result(fake_contest))


def test_a_rate_of_divergence_has_an_interval(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [3.0, 3.01, 2.99, 3.0, 3.0, 3.01, 2.99, 3.0])
    fake_contest.contestant("muon", [2.9, 2.91, 2.89, None, 2.9, 2.9, 2.91, 2.89])
    muon = judge(fake_contest)["muon"]
    assert muon.reason.startswith("1 of 8 final runs diverged (0.32 to 53 % at 95 %)")
    assert "0.100 nats below adamw" in muon.reason


def test_a_baseline_that_diverged_leaves_nothing_to_compare(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [3.0, None, 3.02])
    fake_contest.contestant("muon", [2.9, 2.91, 2.89])
    assert headline(result(fake_contest)) == "adamw diverged on 1 of 3 seeds: nothing can be compared"


def test_a_curve_that_rises_gives_no_tokens(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [3.0, 3.01, 3.02])
    fake_contest.contestant("muon", [2.9, 2.915, 2.92])
    fake_contest.budgets({0.5: [2.9], 2.0: [3.1]})
    value = result(fake_contest)
    muon = next(row for row in value["contestants"] if row["name"] == "muon")
    assert (muon["verdict"], muon["speedup"]) == ("faster", None)
    assert any("rises with tokens beyond noise" in note for note in value["notes"])


def test_a_search_in_which_everything_diverged(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    for lr in (0.1, 1.0):
        fake_contest.add("wild", "tune", None, lr=lr, status="diverged")
    fake_contest.choices["wild"] = Choice(hyperparameters={}, at_edge=True)
    assert "all 2 tuning runs diverged" in judge(fake_contest)["wild"].reason
    assert not any("outermost" in note for note in result(fake_contest)["notes"])


@pytest.mark.parametrize(
    ("status", "words"),
    [("unfinished", "1 of 3 final runs still to finish"), ("failed", "1 of 3 final runs failed: disk")],
)
def test_missing_finals_are_incomplete(fake_contest: FakeContest, status: str, words: str) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.70, 2.71])
    fake_contest.add("muon", "final", None, seed=3, status=status, message="disk full")
    muon = judge(fake_contest)["muon"]
    assert muon.verdict == "incomplete"
    assert words in muon.reason


def test_an_unfinished_baseline_leaves_all_incomplete(fake_contest: FakeContest) -> None:
    fake_contest.add("adamw", "tune", 2.8)
    fake_contest.contestant("muon", [2.70, 2.71, 2.69])
    found = judge(fake_contest)
    assert {verdict.verdict for verdict in found.values()} == {"incomplete"}
    assert "baseline" in found["muon"].reason
    assert "no final run" in found["adamw"].reason


def test_a_contestant_without_trials_is_listed(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    trials = trial_table(fake_contest.ledger, fake_contest.store.runs())
    found = {verdict.name: verdict for verdict in verdicts(trials, "adamw", ["adamw", "soap"])}
    assert found["soap"].verdict == "incomplete"


def test_one_seed_is_not_separable(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.8])
    fake_contest.contestant("muon", [2.1])
    fake_contest.budgets({0.5: [3.0], 2.0: [2.0]})
    muon = judge(fake_contest)["muon"]
    row = muon.row()
    assert muon.verdict == "not separable"
    assert "one seed" in muon.reason
    assert (row["loss_low"], row["speedup_low"], row["speedup_high"]) == (None, None, None)
    assert row["speedup"] > 1


def test_no_shared_seed_is_not_separable(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.8, 2.81])
    for seed in (7, 8):
        fake_contest.add("muon", "final", 2.1, seed=seed)
    assert "shares no final seed" in judge(fake_contest)["muon"].reason


def test_identical_losses_are_not_separable(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.8, 2.8, 2.8])
    fake_contest.contestant("muon", [2.8, 2.8, 2.8])
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    muon = judge(fake_contest)["muon"]
    assert (muon.verdict, muon.speedup) == ("not separable", 1.0)
    assert (muon.speedup_low, muon.speedup_high) == (-math.inf, math.inf), "nothing says how far they vary"


def test_equal_differences_give_no_verdict(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [3.0, 3.0, 3.0])
    fake_contest.contestant("muon", [2.9999, 2.9999, 2.9999])
    fake_contest.budgets({0.5: [3.2], 2.0: [2.8]})
    muon = judge(fake_contest)["muon"]
    assert muon.verdict == "not separable" and "same on all 3 seeds" in muon.reason
    assert math.isinf(muon.speedup_high)


def test_a_speedup_that_would_be_printed_as_one_is_no_verdict(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [3.0, 3.01, 2.99])
    fake_contest.contestant("muon", [2.9990, 3.0089999, 2.9890001], lr=1e-3)
    fake_contest.budgets({0.5: [3.2], 2.0: [2.8]})
    fake_contest.trials = [trial for trial in fake_contest.trials if trial.phase != "tune"]  # no term of the rates
    muon = judge(fake_contest)["muon"]
    assert muon.difference_low > 0 and muon.verdict == "not separable"
    assert "below 0.5 % of the tokens" in muon.reason


def test_one_budget_gives_a_verdict_without_tokens(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.70, 2.712, 2.691])
    value = result(fake_contest)
    muon = value["contestants"][0]
    assert (muon["verdict"], muon["speedup"]) == ("faster", None)
    assert headline(value) == "muon is faster than adamw"
    assert any("one budget" in note for note in value["notes"])


def test_a_lost_budget_is_told(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.budgets({0.5: [3.0]})
    fake_contest.add("adamw", "budget", None, status="diverged", tokens=2 * fake_contest.tokens)
    value = result(fake_contest)
    assert [row["tokens"] for row in value["curve"]] == [fake_contest.tokens // 2, fake_contest.tokens]
    assert any("2.05M tokens is diverged" in note for note in value["notes"])


def test_a_rising_baseline_is_told(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.budgets({0.5: [2.795], 2.0: [2.6]})
    assert any("does not fall" in note for note in result(fake_contest)["notes"])


def test_an_edge_and_uneven_searches_are_told(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79], grid=5)
    fake_contest.contestant("muon", [2.70, 2.71, 2.69], grid=7)
    fake_contest.choices["muon"] = Choice(hyperparameters={"lr": 1e-3}, at_edge=True)
    value = result(fake_contest)
    assert any("outermost" in note and "muon" in note for note in value["notes"])
    assert any("adamw 5" in note and "muon 7" in note for note in value["notes"])
    assert {row["name"]: row["at_edge"] for row in value["contestants"]} == {"adamw": False, "muon": True}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"evaluation": EvaluationSpec(final_tokens=65_536)}, "evaluation.final_tokens (131072"),
        ({"precision": "float32"}, "precision (bf16"),
        ({"tokens": 2_048_000}, "tokens (1024000"),
    ],
)
def test_different_workloads_are_refused_by_name(
    fake_contest: FakeContest, changes: dict[str, Any], field: str
) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    for seed in (1, 2):
        fake_contest.add("muon", "final", 2.7, seed=seed, **changes)
    with pytest.raises(AnalysisError, match="different workloads") as caught:
        judge(fake_contest)
    assert field in str(caught.value)


def test_finals_of_different_hyperparameters_are_refused(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.add("adamw", "final", 2.7, lr=0.5, seed=4)
    with pytest.raises(AnalysisError, match="different hyperparameters"):
        judge(fake_contest)


def test_a_baseline_without_trials_is_refused(fake_contest: FakeContest) -> None:
    fake_contest.contestant("muon", [2.70, 2.71, 2.69])
    with pytest.raises(AnalysisError, match=r"baseline 'adamw' has no trials.*muon"):
        judge(fake_contest)


def test_the_result_is_plain_json_with_the_promised_keys(demo_contest: FakeContest) -> None:
    value = result(demo_contest)
    assert {"baseline", "cell", "contestants"} <= value.keys()
    for row in value["contestants"]:
        assert row.keys() >= KEYS
    assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_runs_that_the_ledger_does_not_name_change_nothing(demo_contest: FakeContest) -> None:
    before = result(demo_contest)
    ledger = demo_contest.ledger
    demo_contest.add("muon", "final", 1.0, seed=99)
    assert contest_result(ledger, demo_contest.store.runs()) == before
