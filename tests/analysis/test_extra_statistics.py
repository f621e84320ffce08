"""What stands beside a verdict: present where it can be known, null where not, and never in its way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.analysis import contest_result
from fairstep.analysis.verdict.extra_statistics import EXTRA
from fairstep.runs import Design

if TYPE_CHECKING:
    from tests.conftest import FakeContest


def rows(contest: FakeContest) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in contest_result(contest.ledger, contest.store.runs())["contestants"]}


def test_every_contestant_has_every_detail(demo_contest: FakeContest) -> None:
    for row in rows(demo_contest).values():
        assert set(EXTRA) <= row.keys()
        json.dumps(row, allow_nan=False)


def test_details_of_a_clear_contest(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79, 2.805])
    fake_contest.contestant("muon", [2.70, 2.712, 2.69, 2.70], step_seconds=0.02)
    fake_contest.contestant("lion", [2.80, 2.80, 2.80, 2.81])
    fake_contest.budgets({0.5: [3.01], 2.0: [2.62], 4.0: [2.48]})
    found = rows(fake_contest)
    muon, lion = found["muon"], found["lion"]
    assert muon["bootstrap_low"] > 0
    assert muon["sign_flip_probability"] == 2 / 16
    assert muon["law_speedup_low"] < muon["law_speedup"] < muon["law_speedup_high"]
    assert muon["law_speedup"] == pytest.approx(muon["speedup"], rel=0.1)
    assert 0 < muon["speedup_per_millinat"] < 0.05
    assert muon["memory_ratio"] == 1.0
    assert (muon["rank_best"], muon["rank_worst"]) == (1, 1)
    assert (lion["rank_best"], lion["rank_worst"]) == (2, 3)
    assert muon["sigma_low"] < muon["sigma"] < muon["sigma_high"]


def test_ranks_agree_with_verdicts(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    for place in range(5):
        fake_contest.contestant(f"muon{place}", [2.70 + place / 1e4, 2.712, 2.69])
    fake_contest.design = Design(first=3, most=3, family=5)
    found = rows(fake_contest)
    for name, row in found.items():
        if name != "adamw":
            assert (row["verdict"] == "faster") == (row["rank_worst"] < 6), name
    assert found["adamw"]["rank_best"] == 1 + sum(row["verdict"] == "faster" for row in found.values())


def test_one_seed_leaves_most_of_it_open(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80])
    fake_contest.contestant("muon", [2.70])
    muon = rows(fake_contest)["muon"]
    assert muon["bootstrap_low"] is None
    assert (muon["rank_best"], muon["rank_worst"]) == (1, 2)


def test_crossings_are_shown(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81])
    fake_contest.contestant("muon", [2.70, 2.71])
    for trial in fake_contest.trials:
        if trial.phase == "final":
            run = fake_contest.store.run(trial.run)
            early = 3.0 if trial.contestant == "adamw" else 3.5
            end = 2.8 if trial.contestant == "adamw" else 2.7
            lines = [{"kind": "evaluation", "step": s, "tokens": s * 10, "loss": v} for s, v in ((1, early), (9, end))]
            (run.directory / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (crossing,) = contest_result(fake_contest.ledger, fake_contest.store.runs())["crossings"]
    assert (crossing["ahead"], crossing["then_ahead"]) == ("adamw", "muon")
    assert 10 < crossing["tokens"] < 90
