"""The change of a speedup per doubling of size: the line, its interval's coverage, and what would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairstep.analysis import AnalysisError
from fairstep.analysis.claims import claims, evaluate
from fairstep.analysis.claims.evidence import Cell, Evidence
from fairstep.analysis.laws.doubling import Z95, against, doubling
from fairstep.report.doublings import doubling_rows, doubling_section

SIZES = (27_648, 106_496, 212_992, 851_968)


def points(factor: float, width: float, sizes: tuple[int, ...] = SIZES) -> list[tuple[float, float, float, float]]:
    """Speedups on a line, with intervals of a half width of ``width`` in log2."""
    values = [1.4 * factor ** math.log2(size / sizes[0]) for size in sizes]
    return [(size, s, s * 2**-width, s * 2**width) for size, s in zip(sizes, values, strict=True)]


def test_the_line_is_that_of_weighted_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, y, e = np.log2(SIZES), rng.normal(0, 0.1, 4), np.array([0.05, 0.2, 0.1, 0.3])
    given = [(2**a, 2**b, 2 ** (b - Z95 * c), 2 ** (b + Z95 * c)) for a, b, c in zip(x, y, e, strict=True)]
    (slope, _), covariance = np.polyfit(x, y, 1, w=1 / e, cov="unscaled")
    found = doubling(given, pairs=3)
    assert found.factor == pytest.approx(2**slope)
    assert found.scatter == pytest.approx(
        math.sqrt((((y - np.polyval(np.polyfit(x, y, 1, w=1 / e), x)) / e) ** 2).sum() / 2)
    )
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]) * max(1, found.scatter))
    assert found.high == pytest.approx(2 ** (slope + Z95 * found.error))


@pytest.mark.parametrize(
    ("factor", "width", "outcome"),
    [(0.93, 0.02, "shrinks"), (1.1, 0.02, "grows"), (1.0, 0.05, "stays"), (0.98, 0.5, "undecided")],
)
def test_what_becomes_of_it(factor: float, width: float, outcome: str) -> None:
    found = doubling(points(factor, width), pairs=3)
    assert (found.outcome, found.factor, found.sizes) == (outcome, pytest.approx(factor), 4)
    assert bool(found.more) == (outcome == "undecided")


def test_how_many_more_runs_would_decide() -> None:
    """An error of e with n pairs is e sqrt(n / N) with N; 80 % power for 5 % needs 2.80 e' = log2(1.05)."""
    found = doubling(points(0.98, 0.5), pairs=3)
    error = found.error * math.sqrt(3 / found.pairs_needed)
    assert 2.8016 * error <= math.log2(1.05)
    assert 2.8016 * found.error * math.sqrt(3 / (found.pairs_needed - 1)) > math.log2(1.05)
    more = found.pairs_needed - 3
    assert found.more == f"{more} more paired seeds at each size ({8 * more} runs)"


def test_intervals_cover() -> None:
    """Three sizes with three seeds each: t-intervals of unequal noise, 2,000 contests."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        draws = 0.5 - 0.1 * np.log2(np.array(SIZES[:3])) / 10 + rng.normal(0, [0.05, 0.1, 0.2], (3, 3))
        mean, half = draws.mean(0), 4.303 * draws.std(0, ddof=1) / math.sqrt(3)
        given = [(s, 2**m, 2 ** (m - h), 2 ** (m + h)) for s, m, h in zip(SIZES, mean, half, strict=False)]
        found = doubling(given, 3)
        inside += found.low <= 2**-0.01 <= found.high
    assert inside / 2000 >= 0.94


def test_fewer_than_three_sizes_say_nothing() -> None:
    with pytest.raises(AnalysisError, match="needs speedups with intervals at 3 sizes, not 2"):
        doubling([*points(1.0, 0.1)[:2], (SIZES[2], 1.2, math.nan, math.inf)], pairs=3)


def test_rules_are_compared() -> None:
    change = against(doubling(points(1.0, 0.05), 3), doubling(points(0.93, 0.05), 3))
    assert change.factor == pytest.approx(1 / 0.93)
    assert change.outcome == "grows"


def rows(rule: str, factor: float, width: float) -> list[dict[str, object]]:
    return [
        {"name": "muon", "verdict": "faster", "transfer": rule, "tokens": 20 * size, "parameters_matrix": size,
         "pairs": 3, "speedup": s, "speedup_low": low, "speedup_high": high}
        for size, s, low, high in points(factor, width)
    ]  # fmt: skip


def test_the_section_has_a_row_for_each_rule_and_one_for_their_difference() -> None:
    given = [*rows("", 0.93, 0.02), *rows("mup", 0.99, 0.4)]
    found = [(row["transfer"], row["outcome"]) for row in doubling_rows(given)]
    assert found == [("none", "shrinks"), ("mup", "undecided"), ("mup over none", "undecided")]
    assert "more paired seeds" in doubling_section(given).body
    assert not doubling_section(rows("", 0.93, 0.02)[:2]).body


@pytest.mark.parametrize(
    ("factor", "width", "verdict", "words"),
    [
        (0.9, 0.02, "fails", "muon at 1x: a doubling multiplies the speedup by 0.900"),
        (1.0, 0.05, "holds", "multiplies the speedup by 1.000"),
        (1.0, 0.5, "inconclusive", "would decide)"),
    ],
)
def test_the_claim_that_speedups_last(factor: float, width: float, verdict: str, words: str) -> None:
    claim = next(one for one in claims() if one.id == "Q1")
    cells = tuple(
        Cell(str(s), str(s), s, 1.0, 20 * s, {}, speedups={"muon": (v, a, b)}, transfer=rule, pairs=3)
        for rule, given in (("mup", points(factor, width)), ("", points(0.5, 0.01)))
        for s, v, a, b in given
    )
    finding = evaluate(claim, Evidence("a store", cells, from_store=True))
    assert finding.verdict == verdict
    assert words in finding.evidence
    plain = evaluate(claim, Evidence("a store", cells[4:], from_store=True))
    assert plain.evidence.startswith('missing: speedups of a matrix optimizer at three sizes with transfer = "mup"')
