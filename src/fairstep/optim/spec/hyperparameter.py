"""Hyperparameter and Grid: one number, switch or word of an optimizer, and the values that a tuner tries for it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fairstep.optim.roles import Value


@dataclass(frozen=True)
class Hyperparameter:
    """One number, switch or word that a user may set.

    The default's type is the type: bool, int, float or str. ``domain`` is an interval such as "(0, inf)" or "[0, 1)"
    for numbers, the allowed words for a str, and not needed for a bool. ``source`` says where the default is from.
    """

    default: Value
    description: str
    source: str
    domain: str | tuple[str, ...] = ""
    run_length: bool = False
    """Whether it is the run's number of steps, which whoever knows the run fills in."""

    product_dtype: bool = False
    """Whether "auto" stands for a dtype that is the run's precision, which whoever knows the run fills in."""

    later: bool = False
    """Whether it came after the optimizer. Where it has its default it is in no run's settings, so that runs from
    before it keep their names (the hash of their settings)."""

    def check(self, name: str, value: object) -> Value:
        """The value in its proper type. Raises ValueError with one sentence: what was given, what would be right."""
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false, not {value!r}")
            return value
        if isinstance(self.default, str):
            if value not in self.domain:
                raise ValueError(
                    f"{name} must be one of {', '.join(self.domain)}, not {value!r}{did_you_mean(value, self.domain)}"
                )
            return str(value)
        whole = isinstance(self.default, int)
        kind = "an integer" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError(f"{name} must be {kind} in {self.domain}, not {value!r}")
        number = as_float(value)
        if not inside(str(self.domain), number) or (whole and not number.is_integer()):
            raise ValueError(f"{name} must be {kind} in {self.domain}, not {value!r}")
        return int(number) if whole else number


@dataclass(frozen=True)
class Splits(Hyperparameter):
    """The parts of a fused matrix (``optim.splits``): how many equal ones, a proportion, or interleaved ones."""

    def check(self, name: str, value: object) -> Value:
        """In its shortest form, so that one division has one name: 3 for "2:2:2". Raises ValueError."""
        groups, star, shares = value.rpartition("*") if isinstance(value, str) else ("", "", str(value))
        words = [groups] * bool(star) + shares.split(":")
        if isinstance(value, bool) or not all(word.isdecimal() and int(word) for word in words):
            raise ValueError(
                f"{name} must be a number of equal parts from 1 on, parts in proportion such as '4:1:1', or "
                f"interleaved ones such as '8*4:1:1', not {value!r}"
            )
        numbers = [int(word) for word in shares.split(":")]
        numbers = [1] * numbers[0] if len(numbers) == 1 else [number // math.gcd(*numbers) for number in numbers]
        if star and int(groups) > 1 and len(numbers) > 1:
            return f"{int(groups)}*{':'.join(map(str, numbers))}"
        return len(numbers) if max(numbers) == 1 else ":".join(map(str, numbers))


@dataclass(frozen=True)
class Grid:
    """Values that a tuner tries for one hyperparameter: geometric, so it can be extended at either end."""

    values: tuple[float, ...]
    factor: float
    source: str

    @classmethod
    def geometric(cls, first: float, count: int, source: str, factor: float = 2.0) -> Grid:
        return cls(tuple(float(f"{first * factor**n:.6g}") for n in range(count)), factor, source)


def as_float(value: Any) -> float:
    """Infinite for a whole number that no float reaches."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def inside(domain: str, number: float) -> bool:
    """Whether a finite number lies in an interval such as "(0, inf)" or "[0, 1)"."""
    low, high = (float(end) for end in domain[1:-1].split(","))
    above = number > low or (number == low and domain[0] == "[")
    below = number < high or (number == high and domain[-1] == "]")
    return math.isfinite(number) and above and below


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """' (did you mean a or b?)' or nothing."""
    from difflib import get_close_matches  # only errors need it

    close = get_close_matches(str(word).lower(), list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
