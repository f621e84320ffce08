"""Claims: complete, computed from data (they change with it), and honest about what is missing."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.claims import claim_rows, claims, evaluate
from fairstep.analysis.claims.claim import Part, every, mostly
from fairstep.analysis.claims.evidence import Cell, Evidence, Gap, Measured, gap
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
        ("W2a", "holds", "32 of 43 transfers that change a value cost more than the noise, within uncertainty 11"),
        ("W3c", "inconclusive", "speedups fall; W3b compares the ends"),
        ("W3d", "inconclusive", "best is muon, 1.18 [1.14, 1.21] at 1.2b 1x (losses of 2025-08)"),
        ("W3e", "fails", "gain 0.120 [0.089, 0.155] at 1.2b, the gain at 130m over 9 is 0.047 [0.044, 0.050]"),
        ("W7", "holds", "weight decay 0 leads 0.1 at 54 % of the run by +0.1220 [+0.1185, +0.1255]"),
        ("W11", "inconclusive", "+0.0080 [-0.0399, +0.0592] from 16 points"),
        ("W12", "fails", "soap behind mars, 16k to 262k at 124m: the gap grows by +0.1380"),
        ("W13", "inconclusive", "warmup 1000 alone is above the best found by +0.0054 [+0.0019, +0.0089]"),
        ("F0", "inconclusive", "size: none of 6 pairs of settings has two clear winners that ran in both"),
        ("F6", "holds", "53 of 54 separated pairs keep their order, within uncertainty 1 (mars below signum"),
        ("F15", "holds", "48 of 54 separated pairs keep their order, within uncertainty 6 (soap below adopt"),
        ("F18", "inconclusive", "missing (1 of 22): times of the other optimizers"),
        ("F19", "holds", "50 of 54 separated pairs keep their order, contradicted 4 (ademamix below soap"),
        ("F29", "inconclusive", "W12 is the claim"),
        ("W10", "inconclusive", "muon -0.17 points"),
        ("W14", "holds", "10 of 10 lists equal W's records"),
        ("F2", "holds", "signum"),
        ("F11", "inconclusive", "sf-adamw: warmup_steps 8000 below 2000"),
        ("F14", "holds", "+0.0344"),
        ("F16", "inconclusive", "cannot confirm it (circular)"),
        ("F16", "inconclusive", "the other setup costs, whichever bar is whose, at least by +0.0170"),
        ("F28", "holds", "the addition is checked, not the runs"),
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
        ("W12", "mars", 0.2, "fails", "fails"),
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


def test_nothing_but_a_share_holds_with_an_unclear_case(rows: dict[str, dict[str, str]]) -> None:
    """W2a dropped the 11 transfers that were not clear, and could not fail once one was."""
    for row in rows.values():
        unclear = "within uncertainty (" in row["evidence"] or "missing (" in row["evidence"]
        assert row["verdict"] != "holds" or not unclear, row["id"]


def test_all_parts_that_are_not_clear_are_shown() -> None:
    parts = [Part("open", f"case {place}") for place in range(30)] + [Part("yes", "clear")] * 9
    evidence = every(parts).evidence
    assert all(f"case {place}" in evidence for place in range(30))
    assert "supported (9 of 39): clear; clear; clear; clear; and 5 more" in evidence


@pytest.mark.parametrize(
    ("yes", "no", "open_", "verdict"),
    [
        (32, 0, 11, "holds"),
        (50, 4, 0, "holds"),
        (8, 2, 0, "inconclusive"),
        (4, 0, 6, "inconclusive"),
        (1, 2, 9, "fails"),
    ],
)
def test_a_statement_about_most_cases_is_one_share(yes: int, no: int, open_: int, verdict: str) -> None:
    cases = [Part("yes", "kept")] * yes + [Part("no", "turned")] * no + [Part("open", "level")] * open_
    finding = every(mostly(cases, "keep"))
    assert finding.verdict == verdict
    assert f"{yes} of {yes + no + open_} keep" in finding.evidence
    assert finding.evidence.count("turned") == no
    assert finding.evidence.count("level") == open_


def test_a_copied_value_must_usually_cost_more_than_the_noise() -> None:
    """With the noise ten times as large, W2a's transfers are no longer clear."""

    def louder(table: Mapping[float, Measured]) -> dict[float, Measured]:
        return {value: replace(m, error=10 * m.error) for value, m in table.items()}

    evidence = wen_evidence()
    cells = [replace(c, sweeps={key: louder(table) for key, table in c.sweeps.items()}) for c in evidence.cells]
    assert evaluate(BY_ID["W2a"], replace(evidence, cells=tuple(cells))).verdict == "inconclusive"


def settings(*cells: tuple[str, float, float, dict[str, float]]) -> Evidence:
    """Evidence from (size, batch tokens, tokens, losses read to 0.001)."""
    return Evidence(
        "made",
        tuple(
            Cell(
                f"{size} {batch:g} {tokens:g}",
                size,
                {"124m": 1e8, "210m": 2e8}[size],
                batch,
                tokens,
                {name: Measured(loss, 0.001, read=True) for name, loss in losses.items()},
                metric="main",
            )
            for size, batch, tokens, losses in cells
        ),
    )


def test_the_best_must_change_along_every_axis_between_the_same_rivals() -> None:
    a, b = {"mars": 3.0, "soap": 3.1}, {"mars": 3.1, "soap": 3.0}
    changes = settings(("124m", 1e5, 1e9, a), ("210m", 1e5, 1e9, b), ("124m", 1e6, 1e9, b), ("124m", 1e5, 4e9, b))
    assert evaluate(BY_ID["F0"], changes).verdict == "holds"
    without_rival = settings(
        ("124m", 1e5, 1e9, a),
        ("210m", 1e5, 1e9, b),
        ("124m", 1e6, 1e9, b),
        ("124m", 1e5, 4e9, {"soap": 3.0, "lion": 3.1}),
    )
    found = evaluate(BY_ID["F0"], without_rival)
    assert found.verdict == "inconclusive"
    assert "length: none of 1 pairs" in found.evidence
    two_at_once = settings(("124m", 1e5, 1e9, a), ("210m", 1e6, 4e9, b))
    assert "differ in size, batch or length alone" in evaluate(BY_ID["F0"], two_at_once).evidence


def test_a_store_and_a_paper_have_one_rule_for_kept_rankings() -> None:
    long, names = {f"o{place}": 3 + 0.01 * place for place in range(8)}, [f"o{place}" for place in range(8)]
    turned = long | {"o0": long["o1"], "o1": long["o0"]}
    evidence = replace(settings(("124m", 1e5, 1e9, long), ("124m", 1e5, 2e9, turned)), from_store=True)
    found = evaluate(BY_ID["F6"], evidence)
    assert found.verdict == "holds", "1 of 28 pairs turned"
    assert "27 of 28 separated pairs keep their order, contradicted 1 (o0 below o1" in found.evidence
    backwards = dict(zip(names, reversed(long.values()), strict=True))
    evidence = replace(settings(("124m", 1e5, 1e9, long), ("124m", 1e5, 2e9, backwards)), from_store=True)
    assert evaluate(BY_ID["F6"], evidence).verdict == "fails"


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


def write_copies(contest: FakeContest, names: Iterable[str], **changes: object) -> None:
    for name in names:
        contest.store.write_ledger(contest.ledger.model_copy(update={"name": name} | changes))


def test_ledgers_of_the_same_runs_are_one_cell(demo_contest: FakeContest) -> None:
    """T-06: five copies of one ledger were five cells."""
    write_copies(demo_contest, ["contest"])
    (alone,) = store_evidence(demo_contest.store).cells
    write_copies(demo_contest, "abcd")
    (cell,) = store_evidence(demo_contest.store).cells
    assert cell.losses == alone.losses
    assert cell.speedups == alone.speedups
    assert cell.sweeps == alone.sweeps
    assert "supported (1 of 1)" in claim_rows(demo_contest.store, ids={"W4a"})[1]["evidence"]
    twice = store_evidence(demo_contest.store, Store(demo_contest.store.path)).cells
    assert len(twice) == 1, "a store given twice has its runs once"


def test_a_ledger_with_more_seeds_takes_the_place_of_the_first(fake_contest: FakeContest) -> None:
    for name, loss in (("adamw", 2.8), ("muon", 2.7)):
        fake_contest.contestant(name, [loss, loss + 0.01, loss - 0.02])
    fake_contest.budgets({0.5: [3.0], 2.0: [2.6]})
    write_copies(fake_contest, ["first"])
    fake_contest.add("adamw", "final", 2.81, seed=4)
    fake_contest.add("muon", "final", 2.70, seed=4)
    fake_contest.contestant("lion", [2.79, 2.8, 2.81])
    write_copies(fake_contest, ["second"])
    (cell,) = store_evidence(fake_contest.store).cells
    assert cell.key == "second", "it has the most pairs"
    assert len(cell.losses["muon"].runs) == 4
    assert {"adamw", "muon", "lion"} == cell.losses.keys()


def test_another_configuration_is_other_evidence(fake_contest: FakeContest) -> None:
    for name, loss in (("adamw", 2.8), ("muon", 2.7), ("lion", 2.79)):
        fake_contest.contestant(name, [loss, loss + 0.01, loss - 0.02])
    write_copies(fake_contest, ["first"])
    fake_contest.trials = [trial for trial in fake_contest.trials if trial.contestant != "muon"]
    fake_contest.contestant("muon", [2.69, 2.7, 2.71], lr=4e-3)
    write_copies(fake_contest, ["second"])
    first, second = store_evidence(fake_contest.store).cells
    assert {"adamw", "muon", "lion"} == first.losses.keys()
    assert {"adamw", "muon"} == second.losses.keys(), "lion is in one cell only"
    assert first.losses["muon"].value != second.losses["muon"].value
    fake_contest.trials = []
    fake_contest.contestant("adamw", [2.75, 2.76, 2.77], lr=2e-3)
    fake_contest.contestant("muon", [2.69, 2.7, 2.71], lr=4e-3)
    write_copies(fake_contest, ["third"])
    assert len(store_evidence(fake_contest.store).cells) == 3, "another baseline is another cell"


def test_a_store_that_cannot_be_compared_is_refused(fake_contest: FakeContest, tmp_path: object) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    fake_contest.contestant("muon", [2.70, 2.71, 2.69])
    fake_contest.add("muon", "final", 2.7, seed=9, precision="float32")
    fake_contest.store.write_ledger(fake_contest.ledger)
    with pytest.raises(AnalysisError, match=r"differ in precision \(bf16 in .*, float32 in"):
        claim_rows(fake_contest.store)
    with pytest.raises(AnalysisError, match="holds no contest"):
        claim_rows(Store(f"{tmp_path}/empty"))


@pytest.mark.parametrize(
    ("gap", "words", "said"),
    [
        (Gap(0.02, 0.01, 0.03), "muon below soap", "muon below soap by +0.0200 [+0.0100, +0.0300]"),
        (Gap(-0.02, -0.03, 0.01), "muon below soap", "muon above soap by +0.0200 [-0.0100, +0.0300]"),
        (Gap(-0.02, -math.inf, math.inf), "lr 2 above lr 1", "lr 2 below lr 1 by +0.0200 (no interval)"),
        (Gap(-math.inf, -math.inf, -math.inf), "lion below adamw", "lion above adamw by a divergence"),
        (Gap(-0.02, -0.03, -0.01), "the gap falls", "the gap grows by +0.0200 [+0.0100, +0.0300]"),
    ],
)
def test_a_sign_is_said_once(gap: Gap, words: str, said: str) -> None:
    """By the word, below or above, which an evidence such as "below by -0.02" said a second time."""
    assert gap.said(words) == said


def test_no_evidence_says_a_sign_twice(rows: dict[str, dict[str, str]]) -> None:
    for row in rows.values():
        assert not re.search(r"\b(below|above|grows|falls|over)\b[^;]* by -", row["evidence"]), row["id"]
