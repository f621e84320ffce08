"""T1 to T16 on the track's runs: what they say, and that they follow the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairstep.analysis.claims import claims, evaluate, track3_records
from fairstep.analysis.claims.evidence import Evidence
from fairstep.analysis.claims.published_evidence import published_evidence
from fairstep.analysis.verdict.track import Result, results

BY_ID = {claim.id: claim for claim in claims() if claim.paper == "track3"}


def test_there_are_sixteen() -> None:
    assert list(BY_ID) == [f"T{number}" for number in range(1, 17)]


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("T1", "inconclusive", "Muon over AdamW: 1677 steps [1633, 1720]"),
        ("T1", "inconclusive", "1.52 [1.50, 1.53] times the steps"),
        ("T2", "inconclusive", "supported (4 of 5): 3 over 1: 120 steps"),
        ("T3", "holds", "p = 0.727 by the logs, 0.687 by the printed means"),
        ("T4", "fails", "13 over 8: 29 steps [10, 48] (the track's rule: p = 0.012 by the logs, 0.029"),
        ("T4", "fails", "The table prints 3.2778 for result 8, its logs give 3.2780."),
        ("T5", "holds", "0.342 by the printed means"),
        ("T6", "holds", "p = 0.168 by the logs"),
        ("T7", "holds", "12 over 6: 47 steps [31, 64]"),
        ("T8", "inconclusive", "within uncertainty (1 of 44): result 21 at 3.27759"),
        ("T8", "inconclusive", "43 of 43 results pass the track's rule by their logs"),
        ("T9", "fails", "pooled sigma of 46 groups: 0.00111 [0.00105, 0.00118]"),
        ("T9", "fails", "sigma of tuned AdamW (10 runs): 0.00252"),
        ("T10", "inconclusive", "0.0048 [0.0044, 0.0053] between the ends of 3,150 and 3,350 steps"),
        ("T10", "inconclusive", "3.2881 at 3,150 steps, the end, less 3.2790 at 3,325, 25 steps before the end"),
        ("T11", "inconclusive", "within uncertainty (9 of 19)"),
        ("T12", "inconclusive", "21.1 % [20.0, 22.3]"),
        ("T13", "fails", "over a tuned AdamW: 152 steps [100, 204]"),
        ("T14", "inconclusive", "37 over 36: 1 steps [-27, 28]"),
        ("T15", "inconclusive", "25 over 19: 82 steps [54, 110]"),
        ("T16", "inconclusive", "39 over 12: 211 steps [196, 226]"),
    ],
)
def test_what_the_runs_say(name: str, verdict: str, words: str) -> None:
    finding = evaluate(BY_ID[name], published_evidence("track3"))
    assert finding.verdict == verdict
    assert words in finding.evidence


@pytest.mark.parametrize(
    ("name", "number", "by", "after"),
    [
        ("T1", 36, -0.006, "fails"),
        ("T2", 12, 0.01, "fails"),
        ("T3", 11, -0.003, "fails"),
        ("T4", 8, -0.001, "holds"),
        ("T5", 16, -0.005, "fails"),
        ("T6", 34, -0.005, "fails"),
        ("T7", 12, 0.01, "fails"),
        ("T7", 12, 0.002, "inconclusive"),
        ("T12", 46, 0.01, "fails"),
        ("T14", 37, -0.005, "fails"),
        ("T15", 25, -0.005, "fails"),
        ("T16", 39, 0.0006, "holds"),
    ],
)
def test_a_verdict_follows_the_losses(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int, by: float, after: str
) -> None:
    """The losses of one result moved by so many nats."""
    moved: dict[int, Result] = dict(results())
    moved[number] = replace(moved[number], losses=tuple(loss + by for loss in moved[number].losses))
    monkeypatch.setattr(track3_records, "results", lambda: moved)
    assert evaluate(BY_ID[name], published_evidence("track3")).verdict == after


def test_the_statistics_of_the_track_are_not_those_of_a_store() -> None:
    store = Evidence("runs/mine", (), from_store=True)
    for claim in BY_ID.values():
        finding = evaluate(claim, store)
        assert finding.verdict == "inconclusive" and finding.evidence.startswith("missing: runs/mine would need")
