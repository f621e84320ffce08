"""The design of a contest's final seeds, declared before the first of them, and the looks that were taken.

An interval holds for the number of looks that it was made for. A design therefore stands in the ledger before any final
run has a result, and every look is written down. ``analysis.verdict.looks`` has the tests.
"""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, ValidationError, model_validator

from fairstep.runs.frozen import Record

LONGEST = 200
"""Seeds of the longest design of several looks."""
MOST_SEEDS = 1_000_000
"""Seeds of the longest design of one look."""


class Design(Record):
    """Paired seeds ``first..most``: a look after each number of seeds from ``first`` to ``most``."""

    first: int = Field(ge=0)
    """Seeds at the first look."""
    most: int | None
    """Seeds at the last look. Null: the contest goes on until every contestant is decided."""
    alpha: float = Field(default=0.05, gt=0, le=0.05)
    """Probability of calling any equal contestant faster or slower, over all looks and contestants."""
    spending: float = 1.5
    """Exponent of the spending function alpha (n / most)^spending."""
    family: int = Field(default=0, ge=0)
    """Contestants beside the baseline, among whom alpha is shared (Holm)."""
    before: int = Field(default=0, ge=0)
    """Earlier contests of the store over the same baseline and cell; alpha is what they left."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most is None or self.most != self.first:
            if self.first < 2:
                raise ValueError(f"begins with {self.first}, and a look needs at least 2 paired seeds")
            if self.most is not None and self.most < self.first:
                raise ValueError(f"ends before it begins; write {self.most}..{self.first}")
            if (self.most or 0) > LONGEST:
                raise ValueError(f"looks at more than {LONGEST} seeds; end it there, or nowhere")
        if self.first > MOST_SEEDS:
            raise ValueError(f"has more than {MOST_SEEDS:,} seeds; give fewer")
        return self

    @classmethod
    def parse(cls, text: int | str) -> Design:
        """``3`` or ``"3"`` is one look at 3 seeds, ``"3..8"`` a look after each from 3 to 8, ``"3.."`` has no end.

        Raises ValueError.
        """
        parts = re.fullmatch(r"\s*(\d+)\s*(\.\.\s*(\d*))?\s*", str(text))
        if parts is None:
            raise ValueError(f'seeds must be a number such as 5, or a design such as "3..8" or "3..", not {text!r}')
        first = int(parts[1])
        most = first if parts[2] is None else int(parts[3]) if parts[3] else None
        try:
            return cls(first=first, most=most)
        except ValidationError as error:
            raise ValueError(f"the design {text} {error.errors()[0]['ctx']['error']}") from None

    def __str__(self) -> str:
        if self.most == self.first:
            return str(self.first)
        return f"{self.first}..{'' if self.most is None else self.most}"

    def same_seeds(self, other: Design) -> bool:
        """Whether both look at the same numbers of seeds."""
        return (self.first, self.most) == (other.first, other.most)


class Look(Record):
    """One contestant judged at one number of paired seeds."""

    design: str
    """The seeds of the design that the look belongs to, such as 3..8."""
    contestant: str
    """Name of the contestant."""
    pairs: int
    """Paired seeds looked at."""
    t: float | None
    """Student's t of the paired differences baseline - contestant. Null: all differences are equal."""
    limit: float | None
    """What |t| had to exceed, before the term of the learning rate. Null: nothing is enough at so few seeds."""
    level: float
    """Error probability that this contestant's test had, after Holm."""
    verdict: str
    """faster, slower or not separable."""
    time: str = ""
    """When the look was taken (UTC)."""
