"""Where a contest's baseline came from, if it was not trained for the contest: a store, and what was trained again."""

from __future__ import annotations

from pydantic import Field

from fairstep.runs.frozen import Record


class BaselineSource(Record):
    """A store whose runs are a contest's baseline. Losses are nats per token."""

    store: str
    """The store as the user named it."""
    ledger: str
    """Its contest that the runs are of."""
    digest: str
    """SHA-256 of that ledger's file."""
    runs: int = Field(ge=0)
    """Runs that were taken, the ones that were trained again left out."""
    seeds: tuple[int, ...]
    """Seeds of the final runs that were trained again."""
    again: tuple[float, ...]
    """Their losses here."""
    stored: tuple[float, ...]
    """Their losses in the store."""
    difference: float
    """Mean of here minus store."""
    low: float
    """Lower end of the difference's 95 % interval (``analysis.statistics.repeated``). Equal losses: 0."""
    high: float
    """Upper end of it."""
    margin: float
    """The interval had to lie within plus and minus this."""

    @property
    def equal(self) -> bool:
        """Whether every loss is the store's to the last bit."""
        return self.again == self.stored

    def sentence(self, baseline: str) -> str:
        """For the notes of a verdict."""
        found = "their losses are equal to the last bit"
        if not self.equal:
            found = (
                f"their losses differ by {self.difference:+.4f} nats on average (95 % interval {self.low:+.4f} to "
                f"{self.high:+.4f}, within the margin of {self.margin:g})"
            )
        return (
            f"The baseline {baseline} was not tuned here: {self.runs} of its runs are from {self.store} (contest "
            f"{self.ledger}). {len(self.seeds)} more of its final runs were trained again here, and {found}."
        )
