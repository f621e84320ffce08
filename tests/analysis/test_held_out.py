"""Further texts: differences in bits per byte by pairs, and what they say about the difference on the own text."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import pytest

from fairstep.analysis import Trials
from fairstep.analysis.verdict.held_out import OWN, held_out
from fairstep.analysis.verdict.tasks import tasks
from fairstep.report.other_texts import other_texts

if TYPE_CHECKING:
    from tests.conftest import FakeContest

OWN_LOSSES = {"adamw": [3.0, 3.1, 3.2], "muon": [2.7, 2.791, 2.88]}
PLAYS = {"adamw": [4.0, 4.1, 4.2], "muon": [3.8, 3.896, 3.99]}
CODE = {"adamw": [5.0, 5.1, 5.2], "muon": [5.5, 5.61, 5.72]}


def trials(contest: FakeContest, **texts: dict[str, list[float]]) -> Trials:
    """Final runs of the own losses, with further ones."""
    for name, losses in OWN_LOSSES.items():
        contest.contestant(name, losses)
    made = Trials.read(contest.ledger, contest.store.runs())
    for name in OWN_LOSSES:
        for row in made[name].finals:
            run, place = made.runs[row["run"]], OWN_LOSSES[name].index(row["final_loss"])
            summary = run.summary
            assert summary is not None
            further = {text: losses[name][place] for text, losses in texts.items()}
            run.write_summary(run.sealed(summary.model_copy(update={"validation_losses": further})))
    return Trials.read(contest.ledger, contest.store.runs())


def test_a_change_is_relative_and_paired(fake_contest: FakeContest) -> None:
    rows, signals = held_out(trials(fake_contest, plays=PLAYS), ["muon"])
    own, plays = rows
    assert (own.text, own.name, plays.text, plays.transfer) == (OWN, "muon", "plays", "transfers")
    ratios = [math.log(mine / base) for mine, base in zip(PLAYS["muon"], PLAYS["adamw"], strict=True)]
    half = 4.302652729749464 * statistics.stdev(ratios) / math.sqrt(3)
    assert plays.change == pytest.approx(math.expm1(statistics.fmean(ratios)))
    assert plays.low == pytest.approx(math.expm1(statistics.fmean(ratios) - half))
    assert plays.high == pytest.approx(math.expm1(statistics.fmean(ratios) + half))
    logs = [[math.log(loss) for loss in PLAYS[name]] for name in PLAYS]
    noise = math.sqrt(statistics.fmean(statistics.variance(runs) for runs in logs))
    assert signals["plays"] == pytest.approx(statistics.stdev(map(statistics.fmean, logs)) / noise)


def test_what_becomes_of_a_difference(fake_contest: FakeContest) -> None:
    noisy = {"adamw": [4.0, 4.1, 4.2], "muon": [4.1, 4.0, 4.2]}
    made = trials(fake_contest, code=CODE, noisy=noisy)
    assert {row.text: row.transfer for row in held_out(made, ["muon"])[0]} == {
        OWN: "transfers",
        "code": "reversed",
        "noisy": "cannot be separated",
    }
    assert {row.transfer for row in held_out(made, [])[0]} == {"nothing to transfer"}


def test_without_further_texts_there_is_nothing(fake_contest: FakeContest) -> None:
    assert held_out(trials(fake_contest), ["muon"]) == ([], {})


def test_the_table_says_it_in_percent(fake_contest: FakeContest) -> None:
    table = other_texts("texts", trials(fake_contest, plays=PLAYS, code=CODE), "cell")
    assert table is not None
    muon, signal = table.rows
    assert muon["name"] == "muon" and muon[OWN].startswith("-10.0 [") and "transfers" not in muon[OWN]
    assert muon["plays"].startswith("-5.0 [-5.") and muon["plays"].endswith("] transfers")
    assert muon["code"].startswith("+10.0 [+") and muon["code"].endswith("] reversed")
    assert signal["name"] == "signal over noise" and float(signal["code"]) > 1


def scores(made: Trials, task: str, values: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Run -> task -> score, seed by seed."""
    return {
        row["run"]: {task: values[name][OWN_LOSSES[name].index(row["final_loss"])]}
        for name in values
        for row in made[name].finals
    }


RISING = {"adamw": [0.30, 0.31, 0.32], "muon": [0.33, 0.342, 0.35]}


def test_a_task_is_compared_by_pairs_and_rises_with_quality_unless_said(fake_contest: FakeContest) -> None:
    made = trials(fake_contest)
    (task,) = tasks(made, scores(made, "piqa acc", RISING), decided=["muon"])
    base, muon = task.contestants
    assert (base.name, muon.name, muon.transfer) == ("adamw", "muon", "transfers")
    assert math.isnan(base.difference) and base.mean == pytest.approx(0.31)
    differences = [0.03, 0.032, 0.03]
    half = 4.302652729749464 * statistics.stdev(differences) / math.sqrt(3)
    assert (muon.difference, muon.low) == pytest.approx((statistics.fmean(differences), muon.difference - half))
    noise = math.sqrt(statistics.fmean(statistics.variance(runs) for runs in RISING.values()))
    assert task.signal_over_noise == pytest.approx(statistics.stdev([0.31, muon.mean]) / noise)
    (perplexity,) = tasks(made, scores(made, "text ppl", RISING), falling=["text ppl"], decided=["muon"])
    assert perplexity.contestants[1].transfer == "reversed"
    (undecided,) = tasks(made, scores(made, "piqa acc", RISING))
    assert undecided.contestants[1].transfer == "nothing to transfer"


def test_tasks_come_by_their_signal_over_noise(fake_contest: FakeContest) -> None:
    made = trials(fake_contest)
    sharp = scores(made, "sharp", RISING)
    blunt = scores(made, "blunt", {"adamw": [0.2, 0.3, 0.4], "muon": [0.4, 0.2, 0.31]})
    once = scores(made, "once", {"muon": [0.4, 0.2, 0.31]})
    both = {run: blunt.get(run, {}) | sharp.get(run, {}) | once.get(run, {}) for run in blunt}
    found = tasks(made, both, decided=["muon"])
    assert [task.name for task in found] == ["sharp", "blunt", "once"]
    assert found[1].contestants[1].transfer == "cannot be separated"
    assert math.isnan(found[2].contestants[0].difference), "the baseline has no score"
