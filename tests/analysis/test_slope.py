"""A stated slope: how it is written, and what it makes of a difference."""

from __future__ import annotations

import pytest

from fairstep.analysis import AnalysisError, Estimate
from fairstep.analysis.laws.slope import Slope


@pytest.mark.parametrize(
    ("text", "rate", "unit", "source"),
    [
        ("0.0045/100steps", 0.000045, "steps", ""),
        ("1e-2 / 1M tokens: a paper", 1e-8, "tokens", "a paper"),
        ("0.5/step", 0.5, "steps", ""),
        ("0.5/2ktokens", 0.00025, "tokens", ""),
    ],
)
def test_slopes_as_they_are_written(text: str, rate: float, unit: str, source: str) -> None:
    slope = Slope.parse(text)
    assert (slope.rate, slope.unit, slope.source) == (pytest.approx(rate), unit, source)
    assert (source or "no source named") in str(slope)


@pytest.mark.parametrize("text", ["", "0.1", "-1/100steps", "0/100steps", "nan/100steps", "1/0steps", "1/100epochs"])
def test_what_is_no_slope(text: str) -> None:
    with pytest.raises(AnalysisError, match="a slope is nats over a length"):
        Slope.parse(text)


def test_a_difference_becomes_a_ratio_of_lengths() -> None:
    """0.045 nats at 0.0045 for 100 steps are 1000 steps of the contestant's 2000."""
    slope = Slope.parse("0.0045/100steps")
    assert slope.ratios(Estimate(0.045, 0.0, 0.09, 0.01, 3), 2000) == pytest.approx((1.5, 1.0, 2.0))
