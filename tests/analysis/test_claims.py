"""Claims: complete, computed from data (they change with it), and honest about what is missing."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.claims import claim_rows, claims, evaluate
from fairstep.analysis.claims.claim import Part, every
from fairstep.analysis.claims.evidence import Cell, Evidence, Measured, gap
from fairstep.analysis.claims.published_evidence import semenov_evidence, wen_evidence
from fairstep.analysis.claims.store_evidence import store_evidence
from fairstep.runs import Store

if TYPE_CHECKING:
    from tests.conftest import FakeContest

BY_ID = {claim.id: claim for claim in claims()}


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    start = time.process_time()
    found = {row["id"]: row for row in claim_rows()}
    assert time.process_time() - start < 20, "all published analysis in under 20 s"
    return found


def test_every_finding_has_a_claim(rows: dict[str, dict[str, str]]) -> None:
    assert {f"F{number}" for number in range(30)} <= rows.keys()
    assert {"".join(c for c in name if c.isdigit()) for name in rows if name[0] == "W"} >= set(map(str, range(1, 13)))
    assert len({row["statement"] for row in rows.values()}) == len(rows)
    for row in rows.values():
        assert row["verdict"] in ("holds", "fails", "inconclusive")
        assert row["evidence"].endswith(".")
        assert row["source"]
        if row["verdict"] == "inconclusive":
            assert "within uncertainty" in row["evidence"] or "missing" in row["evidence"]


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("W1", "holds", "1.95 times the steps"),
        ("W2b", "holds", "lion: weight decay 0.6 below 0.1"),
        ("W4a", "inconclusive", "muon below nadamw by +0.0002"),
        ("W11", "inconclusive", "The published data contradict it"),
        ("W12", "fails", "720m"),
        ("W10", "inconclusive", "muon -0.17 points"),
        ("W14", "holds", "10 of 10 lists equal W's records"),
        ("F2", "holds", "signum"),
        ("F11", "inconclusive", "sf-adamw: warmup_steps 8000 below 2000"),
        ("F14", "holds", "+0.0344"),
        ("F16", "holds", "SOAP below AdamW in the other setup by +0.0060"),
        ("F21", "inconclusive", "missing"),
    ],
)
def test_what_the_published_numbers_say(rows: dict[str, dict[str, str]], name: str, verdict: str, words: str) -> None:
    assert rows[name]["verdict"] == verdict
    assert words in rows[name]["evidence"]


def changed(evidence: Evidence, optimizer: str, by: float) -> Evidence:
    """The same evidence with one optimizer's losses moved."""

    def moved(cell: Cell) -> Cell:
        losses = {name: replace(m, value=m.value + by) if name == optimizer else m for name, m in cell.losses.items()}
        return replace(cell, losses=losses)

    return replace(evidence, cells=tuple(moved(cell) for cell in evidence.cells))


@pytest.mark.parametrize(
    ("name", "optimizer", "by", "before", "after"),
    [
        ("W4a", "nadamw", -0.2, "inconclusive", "fails"),
        ("W4b", "mars", -0.05, "inconclusive", "fails"),
        ("W9", "sophia", 0.05, "inconclusive", "holds"),
        ("W9", "sophia", -0.05, "inconclusive", "fails"),
        ("F1", "ademamix", 0.05, "inconclusive", "fails"),
        ("F9", "muon", -0.1, "inconclusive", "fails"),
        ("F15", "lion", -0.2, "holds", "holds"),
        ("F17", "mars", 0.1, "inconclusive", "fails"),
    ],
)
def test_a_verdict_follows_the_numbers(name: str, optimizer: str, by: float, before: str, after: str) -> None:
    evidence = wen_evidence() if name.startswith("W") else semenov_evidence()
    assert evaluate(BY_ID[name], evidence).verdict == before
    assert evaluate(BY_ID[name], changed(evidence, optimizer, by)).verdict == after


def test_the_sensitive_hyperparameters_of_w_are_found_again() -> None:
    from fairstep.analysis.claims.wen_tuning import sensitive_hyperparameters
    from fairstep.published import wen

    for optimizer, listed in wen.facts()["sensitive_hyperparameters"]["repository_2025_05"].items():
        assert set(sensitive_hyperparameters(optimizer)[0]) == set(listed), optimizer


def test_parts_decide() -> None:
    yes, no, open_, gone = (Part(state, state) for state in ("yes", "no", "open", "missing"))  # type: ignore[arg-type]
    assert every([yes, yes]).verdict == "holds"
    assert every([yes, no, open_, gone]).verdict == "fails"
    assert every([yes, open_]).verdict == every([yes, gone]).verdict == every([]).verdict == "inconclusive"


def test_gaps_know_their_source() -> None:
    read = gap(Measured(3.0, 0.002, read=True), Measured(3.01, 0.003, read=True))
    assert (read.low, read.high) == pytest.approx((0.005, 0.015)), "readings add up"
    noisy = gap(Measured(3.0, 0.003), Measured(3.01, 0.004))
    assert (noisy.low, noisy.high) == pytest.approx((0.005, 0.015)), "noises add in squares"
    mixed = gap(Measured(3.0, 0.002, True, 0.015), Measured(3.01, 0.003, True))
    assert mixed.low == pytest.approx(-0.01)
    paired = gap(Measured(3.0, 1, runs={1: 3.0, 2: 3.1}), Measured(3.0, 1, runs={1: 3.2, 2: 3.3}))
    assert (paired.low, paired.high) == pytest.approx((0.2, 0.2))
    assert gap(Measured(3.0, 0.1), Measured(math.nan)).low == math.inf


def test_a_store_is_checked_too(demo_contest: FakeContest) -> None:
    demo_contest.store.write_ledger(demo_contest.ledger)
    own = store_evidence(demo_contest.store)
    found = {name: evaluate(claim, own) for name, claim in BY_ID.items()}
    assert found["W4a"].verdict == "holds"
    assert "soap below " in found["W4a"].evidence
    assert found["F2"].verdict == "inconclusive"
    assert "two batch sizes" in found["F2"].evidence
    assert "contest with Sophia" in found["F5"].evidence
    both = claim_rows(demo_contest.store, ids={"F9"})
    assert [row["data"] for row in both] == ["published: semenov", str(demo_contest.store.path)]


def test_a_store_that_cannot_be_compared_is_refused(fake_contest: FakeContest, tmp_path: object) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.70, 2.71, 2.69])
    fake_contest.add("muon", "final", 2.7, seed=9, precision="float32")
    fake_contest.store.write_ledger(fake_contest.ledger)
    with pytest.raises(AnalysisError, match=r"differ in precision \(bf16 in .*, float32 in"):
        claim_rows(fake_contest.store)
    with pytest.raises(AnalysisError, match="holds no contest"):
        claim_rows(Store(f"{tmp_path}/empty"))
