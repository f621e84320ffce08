"""The words that terminal and page share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from fairstep.analysis import (
    COLUMNS,
    bytes_text,
    contest_result,
    count_text,
    headline,
    seconds_text,
    speedup_text,
    verdict_rows,
)
from fairstep.analysis.verdict.wording import gap_text, limit_text, loss_text

if TYPE_CHECKING:
    from tests.conftest import FakeContest


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.00085, "850 µs"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (0.9996, "1 s"),
        (4.1, "4.1 s"),
        (59.94, "59.9 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_seconds(seconds: float | None, words: str) -> None:
    assert seconds_text(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0"), (999, "999"), (1_048_576, "1.05M"), (4_200, "4.2k"), (7e12, "7T")]
)
def test_counts(count: float, words: str) -> None:
    assert count_text(count) == words


def test_rounding_never_shows_a_thousand_of_a_unit() -> None:
    assert (count_text(999_999), bytes_text(999_999_999)) == ("1M", "1 GB")


def row(**values: Any) -> dict[str, Any]:
    base = {"verdict": "faster", "speedup_bound": None, "speedup_limits": (0.5, 2.0)}
    return base | values


def test_speedups() -> None:
    assert speedup_text(row(speedup=1.4812, speedup_low=1.306, speedup_high=1.663)) == "1.48x [1.31, 1.66]"
    clipped = row(speedup=2.0, speedup_low=1.81, speedup_high=2.0, speedup_bound="at least")
    assert speedup_text(clipped) == "≥ 2.00x [1.81, ≥ 2.00]"
    slow = row(speedup=0.5, speedup_low=0.5, speedup_high=0.62, speedup_bound="at most")
    assert speedup_text(slow) == "≤ 0.50x [≤ 0.50, 0.62]"
    assert speedup_text(row(speedup=1.012, speedup_low=1.003, speedup_high=1.02)) == "1.012x [1.003, 1.020]"
    assert speedup_text(row(speedup=1.2, speedup_low=None, speedup_high=None)) == "1.20x"
    assert speedup_text(row(speedup=None, speedup_low=None, speedup_high=None)) == "–"


def test_losses() -> None:
    assert loss_text({"loss": 2.6321, "loss_low": 2.6201, "loss_high": 2.6441}) == "2.632 ± 0.012"
    assert loss_text({"loss": 2.6321, "loss_low": 2.6318, "loss_high": 2.6324}) == "2.6321 ± 0.0003"
    assert loss_text({"loss": 2.6321, "loss_low": None, "loss_high": None}) == "2.632"
    assert loss_text({"loss": None}) == "–"


def test_a_gap_is_told_from_the_contestants_side() -> None:
    assert gap_text(0.171, 0.14, 0.202, "adamw", 3) == (
        "0.171 nats below adamw (95 % interval 0.140 to 0.202, 3 paired seeds)"
    )
    unknown = gap_text(0.1, -math.inf, math.inf, "adamw", 3)
    assert unknown == "0.100 nats below adamw (no interval yet, 3 paired seeds)"
    assert gap_text(-0.1, -0.3, 0.1, "adamw", 2).startswith("0.100 nats above adamw (95 % interval -0.100 to 0.300")


def test_the_headline_names_everyone(demo_contest: FakeContest) -> None:
    value = contest_result(demo_contest.ledger, demo_contest.store.runs())
    sentence = headline(value)
    assert sentence.startswith("soap (≥ 2.00x) and muon (")
    for row in value["contestants"]:
        assert row["name"] in sentence


def test_a_baseline_alone(fake_contest: FakeContest) -> None:
    fake_contest.contestant("adamw", [2.80, 2.81, 2.79])
    assert "nothing to compare" in headline(contest_result(fake_contest.ledger, fake_contest.store.runs()))


def test_rows_have_a_string_for_every_column(demo_contest: FakeContest) -> None:
    rows = verdict_rows(contest_result(demo_contest.ledger, demo_contest.store.runs()))
    assert len(rows) == 6
    for words in rows:
        assert set(COLUMNS) <= words.keys()
        assert all(isinstance(words[key], str) and words[key] for key in COLUMNS)


def test_a_statistic_is_told_from_its_limit() -> None:
    assert limit_text(5.01, 4.2) == "|t| 5.0, needed 4.2"
    assert limit_text(4.18, 4.23) == "|t| 4.18, needed 4.23"
    assert limit_text(4.2301, 4.2309) == "|t| 4.230, needed 4.231"
    assert limit_text(4.2, math.inf) == "|t| 4.2, too few seeds to decide"
