"""Looks at several contestants: decided when, at which level, and how often equal ones are called different."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from fairstep.analysis import contest_result
from fairstep.analysis.verdict.looks import Contender, limit_of, limits_at, look_once, looks, undecided
from fairstep.analysis.verdict.ranking import holm
from fairstep.runs import Design, Look

if TYPE_CHECKING:
    from tests.conftest import FakeContest


def contender(losses: np.ndarray | list[float], rates: dict[float, float] | None = None) -> Contender:
    tried = [({"lr": rate}, loss) for rate, loss in (rates or {}).items()]
    return Contender(dict(enumerate(map(float, losses))), tried, {"lr": 1.0})


def test_one_look_without_rates_is_holm_of_t_tests() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        base = rng.normal(size=4)
        others = {str(k): base - 0.8 * k + 0.4 * rng.normal(size=4) for k in range(4)}
        tests = look_once(contender(base), {name: contender(losses) for name, losses in others.items()}, 4)
        apart = [float(stats.ttest_rel(base, losses).pvalue) for losses in others.values()]
        adjusted = holm(apart)
        for (name, test), wrong in zip(tests.items(), adjusted, strict=True):
            assert (test.decision != "not separable") == (wrong <= 0.05), name
        alone = [test.probability(limits_at(Design(first=4, most=4), 4)) for test in tests.values()]
        assert alone == pytest.approx([max(one, 1e-6) for one in apart], rel=1e-6)


def test_a_decided_contestant_hands_its_alpha_on_at_the_same_look() -> None:
    design = Design(first=3, most=5, family=2)
    base = [3.0, 3.01, 2.99, 3.0, 3.0]
    sure = contender([2.0, 2.011, 1.99])
    margin = 0.0577  # between the limits of half and of all alpha at three seeds
    t = (limit_of(design, 3, 0.05) + limit_of(design, 3, 0.025)) / 2
    spread = np.array([-margin, 0.0, margin])
    close = contender(np.array(base[:3]) - spread - t * margin / math.sqrt(3))
    both = looks(design, contender(base), {"sure": sure, "close": close})
    assert [tests[-1].decision for tests in both.values()] == ["faster", "faster"]
    assert both["close"][-1].level == 0.05 and len(both["close"]) == 1
    equal = contender([3.0, 3.02, 2.97])
    one = looks(design, contender(base), {"equal": equal, "close": close})
    assert one["close"][-1].decision == "not separable" and one["close"][-1].level == 0.025
    assert undecided(design, one, 3) == ["equal", "close"] and undecided(design, one, 5) == []


def test_the_learning_rate_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    base, other = 3 + 0.01 * rng.normal(size=(2, 3))
    rates = {0.5: 3.08, 1.0: 3.0, 2.0: 3.07}
    plain = look_once(contender(base), {"b": contender(other - 0.1)}, 1)["b"]
    wide = look_once(contender(base, rates), {"b": contender(other - 0.1, rates)}, 1)["b"]
    assert plain.choice_error is None and wide.choice_error is not None and 0 < wide.choice_error < 0.03
    half = [test.interval for test in (plain, wide)]
    error = 1.959964 * wide.choice_error
    assert (half[1].high - half[1].low) / 2 == pytest.approx(math.hypot((half[0].high - half[0].low) / 2, error))
    edge = {1.0: 3.0, 2.0: 3.1}
    one_sided = look_once(contender(base, edge), {"b": contender(other, edge)}, 1)["b"]
    assert one_sided.choice_error is None, "no curvature, no term"
    half_known = look_once(contender(base, rates), {"b": contender(other, edge)}, 1)["b"]
    assert half_known.choice_error is not None, "what is known of one side counts"


def wrongly_decided(design: Design, contestants: int, effect: float, times: int) -> tuple[float, float]:
    """Share of contests with any wrong word, and mean seeds of a contestant."""
    rng = np.random.default_rng(1)
    wrong, seeds = 0, 0.0
    for _ in range(times):
        noise = rng.normal(size=(contestants + 1, design.most or 12))
        others = {str(k): contender(noise[k] - effect) for k in range(contestants)}
        taken = looks(design, contender(noise[-1]), others)
        words = [tests[-1].decision for tests in taken.values()]
        wrong += any(word != "not separable" for word in words) if effect == 0 else "slower" in words
        seeds += float(np.mean([tests[-1].pairs for tests in taken.values()]))
    return wrong / times, seeds / times


@pytest.mark.slow
def test_five_equal_contestants_and_ten_looks_err_in_five_percent() -> None:
    times = 2000
    share, _ = wrongly_decided(Design(first=3, most=12, family=5), 5, 0.0, times)
    assert share < 0.055 + 2 * math.sqrt(0.05 * 0.95 / times)


@pytest.mark.slow
def test_a_large_difference_needs_few_seeds() -> None:
    # A true difference of 3 deviations of a paired difference, whose noise has two runs in it.
    share, seeds = wrongly_decided(Design(first=3, most=12, family=3), 3, 3 * math.sqrt(2), 500)
    assert share < 0.01 and seeds < 6


def test_an_open_design_goes_on() -> None:
    design = Design.parse("3..")
    rng = np.random.default_rng(5)
    base = rng.normal(size=30)
    taken = looks(design, contender(base), {"b": contender(base - 0.5 + 0.4 * rng.normal(size=30))})
    assert taken["b"][-1].decision == "faster" and 4 <= taken["b"][-1].pairs < 30
    assert math.isinf(limit_of(design, 3, 0.05))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8..3", "ends before it begins"),
        ("1..4", "at least 2 paired seeds"),
        ("three", "must be a number such as 5"),
        ("3..8..9", "must be a number such as 5"),
        ("-3", "must be a number such as 5"),
    ],
)
def test_a_wrong_design_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Design.parse(text)


def test_designs_are_read_and_written() -> None:
    for text in ("3", "3..8", "3.."):
        assert str(Design.parse(text)) == text
    assert Design.parse(4) == Design.parse("4..4")


def test_a_contest_tells_its_design(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79, 2.80, 2.81])
    fake_contest.contestant("muon", [2.50, 2.512, 2.49])
    fake_contest.contestant("lion", [2.80, 2.805, 2.80, 2.80, 2.80])
    fake_contest.budgets({0.5: [3.0], 2.0: [2.4]})
    fake_contest.design = Design(first=3, most=5, family=2)
    result = contest_result(fake_contest.ledger, fake_contest.store.runs())
    rows = {row["name"]: row for row in result["contestants"]}
    assert (rows["muon"]["verdict"], rows["muon"]["pairs"]) == ("faster", 3)
    assert (rows["lion"]["verdict"], rows["lion"]["pairs"]) == ("not separable", 5)
    assert "look at 5 of at most 5 seeds" in rows["lion"]["reason"]
    assert rows["muon"]["simultaneous_low"] < rows["muon"]["difference_low"]
    assert rows["muon"]["probability"] < rows["muon"]["holm_probability"] <= 0.05 < rows["lion"]["holm_probability"]
    assert any("not decided when the design of 3..5 seeds ended" in note for note in result["notes"])
    assert any("corrected for 2 contestants" in note for note in result["notes"])
    assert result["design"]["most"] == 5


def test_an_old_ledger_says_what_todays_rules_would(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    for place in range(6):
        fake_contest.contestant(f"muon{place}", [2.76, 2.78, 2.745])
    result = contest_result(fake_contest.ledger, fake_contest.store.runs())
    assert {row["verdict"] for row in result["contestants"]} == {"baseline", "faster"}
    assert any("By today's rules it would say: muon0 not separable" in note for note in result["notes"])


def test_one_difference_far_off_is_told(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79, 2.80, 2.80, 2.80])
    fake_contest.contestant("muon", [2.79, 2.801, 2.781, 2.79, 2.789, 3.90])
    fake_contest.design = Design(first=6, most=6, family=1)
    notes = contest_result(fake_contest.ledger, fake_contest.store.runs())["notes"]
    assert any("muon: one difference from adamw lies far" in note for note in notes)


def test_looks_of_a_ledger_are_kept() -> None:
    look = Look(design="3..8", contestant="muon", pairs=3, t=None, limit=None, level=0.05, verdict="not separable")
    assert Look.model_validate_json(look.model_dump_json()) == look
