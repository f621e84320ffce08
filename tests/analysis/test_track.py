"""The track's results by our rule: Welch and Bartlett against scipy, leads in steps, and verdicts of records."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fairstep.analysis.statistics import AnalysisError, Unpaired, mean_interval, unpaired_difference
from fairstep.analysis.verdict import track, track3_rule
from fairstep.analysis.verdict.repeats import pooled_noise
from fairstep.published import track3


def test_welch_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    for sizes in ((2, 2), (4, 8), (30, 5)):
        a, b = (draw.normal(3.28, sigma, size) for sigma, size in zip((0.001, 0.003), sizes, strict=True))
        ours = unpaired_difference(mean_interval(a), mean_interval(b), 0.0005)
        theirs = stats.ttest_ind(a + 0.0005, b, equal_var=False)
        interval = theirs.confidence_interval(0.95)
        assert ours.degrees == pytest.approx(theirs.df, rel=1e-9)
        assert ours.probability == pytest.approx(theirs.pvalue, rel=1e-7)
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-7)


def test_one_run_has_a_difference_and_no_interval() -> None:
    ours = unpaired_difference(mean_interval([3.0]), mean_interval([2.0, 2.5]))
    assert ours.value == 0.75
    assert (ours.low, ours.high) == (-math.inf, math.inf) and math.isnan(ours.probability)


def test_equal_runs_on_both_sides_leave_no_doubt() -> None:
    apart = unpaired_difference(mean_interval([3.0, 3.0]), mean_interval([2.0, 2.0]))
    assert apart == Unpaired(1.0, 1.0, 1.0, 0.0, 2.0) and apart.probability == 0
    assert unpaired_difference(mean_interval([3.0, 3.0]), mean_interval([3.0, 3.0])).probability == 1


def test_bartlett_and_the_pooled_interval_are_those_of_scipy() -> None:
    groups = list(track3.repeats().values())
    noise, theirs = pooled_noise(groups), stats.bartlett(*groups)
    assert (noise.statistic, noise.probability) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert noise.degrees == sum(map(len, groups)) - len(groups) == 519
    ends = [math.sqrt(noise.sigma**2 * noise.degrees / stats.chi2.ppf(q, noise.degrees)) for q in (0.975, 0.025)]
    assert [noise.low, noise.high] == pytest.approx(ends, rel=1e-9)
    assert f"{noise.sigma:.4f}" == "0.0011" and noise.probability > 0.05
    adamw = track3.TUNED_ADAMW
    wrong = stats.f.sf((adamw.deviation / noise.sigma) ** 2, adamw.runs - 1, noise.degrees)
    assert noise.outside(adamw.deviation, adamw.runs) == pytest.approx(wrong, rel=1e-9)
    assert wrong < 1e-4


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 3.0]]])
def test_a_common_sigma_needs_two_groups_with_a_spread(groups: list[list[float]]) -> None:
    with pytest.raises(AnalysisError, match=r"two or more groups"):
        pooled_noise(groups)


def test_a_lead_is_the_difference_in_steps() -> None:
    first, second = track.results()[16], track.results()[14]
    nats = np.mean(second.losses) - np.mean(first.losses) + 0.0045 * 25 / 100
    lead = track.lead(first, second)
    assert lead.difference.value == pytest.approx(nats, rel=1e-9)
    assert lead.steps == pytest.approx(nats / 0.0045 * 100, rel=1e-9)
    back = track.lead(second, first)
    assert (back.steps, back.low) == pytest.approx((-lead.steps, -lead.high))


def test_equal_steps_add_nothing() -> None:
    a, b = track.results()[36], track.results()[37]
    assert track.lead(a, b, 0.001).difference == track.lead(a, b, 0.01).difference


def test_every_result_meets_the_record_before_it() -> None:
    before = track.predecessors(list(track.results().values()))
    assert set(before) == set(range(2, 47))
    assert {number: before[number].number for number in (2, 7, 8, 11, 14, 36, 46)} == {
        2: 1, 7: 5, 8: 5, 11: 9, 14: 13, 36: 34, 46: 45
    }  # fmt: skip
    assert all(found.record for found in before.values())


def test_which_records_are_separable() -> None:
    steps = {step.result.number: step for step in track.judged() if step.result.record}
    verdicts = {number: step.verdict for number, step in steps.items()}
    assert Counter(verdicts.values()) == {"faster": 8, "not separable": 9, "one run": 2, "first": 1}
    assert {number for number, verdict in verdicts.items() if verdict == "faster"} == {9, 14, 20, 29, 30, 44, 45, 46}
    assert (verdicts[1], verdicts[3], verdicts[5]) == ("first", "one run", "one run")
    alone = {number for number, step in steps.items() if step.probability <= 0.05}
    assert alone - {9, 14, 20, 29, 30, 44, 45, 46} == {43}, "separable alone, not among 17"


def test_the_rule_of_the_track_stands_beside_ours() -> None:
    steps = {step.result.number: step for step in track.judged()}
    assert {number for number, step in steps.items() if step.result.record and step.track3_better} == {
        *(5, 9, 14, 20, 29, 30, 44, 45)
    }, "46 misses its margin of 0.004 and 5 has a predecessor of one run"
    assert round(steps[34].track3_probability, 3) == 0.168, "as printed"


@pytest.mark.parametrize(("a", "b", "printed"), [(11, 9, 0.69), (13, 11, 0.099), (13, 8, 0.029), (16, 14, 0.34)])
def test_printed_p_values_are_of_the_printed_means(a: int, b: int, printed: float) -> None:
    first, second = track.results()[a], track.results()[b]
    sides = [(result.printed, len(result.losses)) for result in (first, second)]
    p = track3_rule.track3_of_means(sides[0], sides[1], steps=second.steps - first.steps)
    assert float(f"{p:.2g}") == printed


def test_rows_are_flat_and_hold_nothing_infinite() -> None:
    rows = track.result_rows()
    assert [row["number"] for row in rows] == list(range(1, 47))
    assert len({tuple(row) for row in rows}) == 1
    assert all(
        value is None or isinstance(value, str) or math.isfinite(value) for row in rows for value in row.values()
    )
    again = {row["number"]: row["verdict"] for row in track.result_rows(0.004)}
    assert [row["number"] for row in rows if again[row["number"]] != row["verdict"]] == [46], "depends on the slope"
