"""Forecasts of speedups: right where the truth is known, wide where nobody measured, calibrated on left-out data."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from fairstep.analysis import AnalysisError
from fairstep.recommend.kriging import LEAST_STUDY, Scales, fit_scales, forecast, gap_of, outside
from fairstep.recommend.points import Point, Target, loss_drop_law, published_points

SCALES = Scales(0.1, 0.04, 0.08, 0.1, 0.44, 0.13, 0.001, 29.0, 22.0, 4.2)


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return list(published_points())


def test_a_forecast_at_a_cell_of_its_own_study_is_that_cell(points: list[Point]) -> None:
    cell = next(p for p in points if p.optimizer == "muon" and p.label == "300m 1x")
    found = {row.optimizer: row for row in forecast(points, cell.target, loss_drop_law(points), cell.study, SCALES)}
    muon = found["muon"]
    assert muon.speedup == pytest.approx(2**cell.value, rel=0.02)
    assert muon.low > 1
    assert muon.high - muon.low < 0.2
    assert muon.gap == pytest.approx(cell.gap, abs=0.01)
    assert muon.nearest == cell
    assert muon.outside == ()


def test_another_study_and_far_places_widen(points: list[Point]) -> None:
    def width(target: Target, study: str) -> float:
        found = {row.optimizer: row for row in forecast(points, target, law, study, SCALES)}
        return math.log2(found["muon"].high / found["muon"].low)

    law = loss_drop_law(points)
    inside = Target(302e6, 6e9, 524_288)
    widths = [
        width(inside, "wen"),
        width(inside, ""),
        width(Target(3e9, 6e10, 524_288), ""),
        width(Target(3e10, 6e11, 524_288), ""),
    ]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4


def test_ties_are_ranges_of_ranks(points: list[Point]) -> None:
    law = loss_drop_law(points)
    found = {r.optimizer: r for r in forecast(points, Target(85e6, 16.8e9, 16_384), law, "semenov", SCALES)}
    best, worst = found["ademamix"], found["signum"]
    assert best.rank_worst < worst.rank_best, "separated by a factor of ten in S's small-batch panel"
    far = forecast(points, Target(3e10, 6e11, 3e7), law, "", SCALES)
    assert all(row.rank_best == 1 for row in far if row.speedup > 1), "nothing is told apart so far out"
    adamw = found["adamw"]
    assert (adamw.speedup, adamw.low, adamw.high, adamw.gap) == (1.0, 1.0, 1.0, 0.0)


def test_outside_names_the_axis_and_the_factor(points: list[Point]) -> None:
    assert outside(points, Target(302e6, 6e9, 524_288)) == ()
    (words,) = outside(points, Target(4.8e9, 9.7e10, 524_288))
    assert words == "matrix parameters 3.97 times above the data"


def test_gaps_follow_a_power_law_of_tokens() -> None:
    # L = 3 D^-0.4 at D = 8: the drop from D to 2 D, and to 4 D.
    drop = 3 * 8**-0.4 * 0.4 * math.log(2)
    assert gap_of(2.0, drop, 0.4) == pytest.approx(3 * (8**-0.4 - 32**-0.4))
    assert gap_of(-1.0, drop, 0.4) == pytest.approx(3 * (8**-0.4 - 4**-0.4))
    assert gap_of(0.0, drop, 0.4) == 0


def test_what_a_doubling_of_tokens_gains_is_one_law_in_both_papers(points: list[Point]) -> None:
    law = loss_drop_law(points)
    assert law.rmse < 0.12, "in logs, over cells of both papers"
    assert 0.3 < law.parameters["B"] < 0.5


def test_a_known_line_is_found_again() -> None:
    rng = np.random.default_rng(3)
    made = []
    for name in "abcdefgh":
        slope, level = rng.normal(0, 0.1), rng.normal(0, 0.2)
        for size in range(24, 31):
            place = (float(size), 0.0, 19.0)
            value = level + slope * (size - 27) + 0.01 * rng.normal()
            made.append(Point(name, "one", f"{size}", place, value, 0.01, value))
    scales = fit_scales(tuple(made))
    # Levels were drawn with 0.2. In one study they cannot be divided between the optimizer and the study.
    assert 0.15 < math.hypot(scales.level, scales.study) < 0.3
    assert scales.study >= LEAST_STUDY
    truth = {name: [p for p in made if p.optimizer == name] for name in "abcdefgh"}
    law = loss_drop_law([replace(p, gap=p.value * 0.1 * 2 ** (-0.3 * (p.place[0] - 27))) for p in _with_tokens(made)])
    for row in forecast(made, Target(2.0**32, 20 * 2.0**32, 2.0**19), law, "one", scales):
        if row.optimizer != "adamw":
            values = [p.value for p in truth[row.optimizer]]
            line = np.polynomial.Polynomial.fit(range(24, 31), values, 1)(32)
            assert row.low < 2**line < row.high


def _with_tokens(points: list[Point]) -> list[Point]:
    """The same at two lengths, which a law in tokens needs."""
    longer = [replace(p, place=(p.place[0], 1.0, 19.0), label=p.label + "l", gap=p.gap * 0.8) for p in points]
    return [*points, *longer]


def test_nothing_known_is_said(points: list[Point]) -> None:
    with pytest.raises(AnalysisError, match="three or more cells"):
        forecast(points[:2], Target(1e8, 2e9, 5e5), loss_drop_law(points))


def test_a_trend_ends_where_the_data_end(points: list[Point]) -> None:
    """The line was carried on: Signum 7.3x [1.7, 31] at a batch 6,900 times beyond the data."""
    law = loss_drop_law(points)
    places = [Target(350e6, 7e9, 3.5e6 * factor) for factor in (1, 2**3, 2**6, 2**12)]
    far = [{row.optimizer: row for row in forecast(points, place, law, "", SCALES)} for place in places]
    for near, next_ in itertools.pairwise(far):
        for name, row in next_.items():
            assert 0.5 < row.speedup < 2
            if name != "adamw":
                assert row.high / row.low > near[name].high / near[name].low, "ever less is known"


def test_nothing_is_concluded_outside_the_data(points: list[Point]) -> None:
    law = loss_drop_law(points)
    for target, words in (
        (Target(350e6, 7e9, 7e9), "1 step, fewer than 100"),
        (Target(350e6, 1e6, 5e5), "2 steps, fewer than 100"),
        (Target(350e6, 99 * 5e5, 5e5), "99 steps, fewer than 100"),
    ):
        for row in forecast(points, target, law, "", SCALES):
            if row.optimizer != "adamw":
                assert words in row.outside
                assert (row.rank_best, row.rank_worst) == (1, 18), "nothing is told apart"
                assert abs(row.gap) < 1
    assert not any("step" in text for text in outside(points, Target(350e6, 100 * 5e5, 5e5)))
