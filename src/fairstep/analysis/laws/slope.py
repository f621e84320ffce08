"""A stated slope: by how many nats a loss falls for every step or token more, near the end of training.

It stands in for the baseline's own runs at other lengths where there are none. It is a statement of whoever gives it,
so a verdict that rests on it names it. ``0.0045/100steps`` is what modded-nanogpt's optimization track measured near a
loss of 3.28 for its own model.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from fairstep.analysis.statistics import AnalysisError, Estimate

REACH = (0.5, 2.0)
"""Ratios of lengths within which a straight line is read; beyond, a speedup is given as a bound."""

FORM = re.compile(r"\s*([0-9.eE+-]+)\s*/\s*([0-9.eE+]*)\s*([kMB]?)\s*(steps?|tokens?)\s*(?::\s*(.*\S))?\s*")
SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True)
class Slope:
    """``nats`` for ``length`` steps or tokens (``unit``) more. ``source``: who says so; empty if nobody is named."""

    nats: float
    length: float
    unit: str
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> Slope:
        """``0.0045/100steps`` or ``0.01/1Mtokens``, perhaps with ``: source``. Raises AnalysisError."""
        parts = FORM.fullmatch(text)
        try:
            assert parts is not None
            slope = cls(
                float(parts[1]), float(parts[2] or 1) * SCALES[parts[3]], parts[4].rstrip("s") + "s", parts[5] or ""
            )
            assert all(math.isfinite(value) and value > 0 for value in (slope.nats, slope.length))
        except (AssertionError, ValueError):
            raise AnalysisError(
                f"a slope is nats over a length, such as 0.0045/100steps or 0.01/1Mtokens, not {text!r}"
            ) from None
        return slope

    def __str__(self) -> str:
        source = f"source: {self.source}" if self.source else "no source named"
        return f"{self.nats:g} nats for {self.length:g} {self.unit} ({source})"

    @property
    def rate(self) -> float:
        """Nats for one step or token."""
        return self.nats / self.length

    def ratios(self, difference: Estimate, length: float) -> tuple[float, float, float]:
        """Speedup with the ends of its interval: what the baseline needs for the loss of a contestant of ``length``,
        over that length. ``difference``: baseline - contestant at equal lengths."""
        low, value, high = (
            1 + end / (self.rate * length) for end in (difference.low, difference.value, difference.high)
        )
        return value, low, high
