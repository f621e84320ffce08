"""Certificate: what shows that a contestant was tuned in a cell, or what is missing.

``study`` makes it; the report reads it from the ledger. All losses and gains are nats per token. Intervals are
simultaneous: with probability ``level`` all statements of one certificate about losses are true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field

from fairstep.runs.frozen import Record, Value


class Move(Record):
    """A change of one hyperparameter of the chosen configuration."""

    name: str
    """The hyperparameter."""
    value: Value
    """Its other value."""
    gain: float
    """How much lower the loss is there, in nats per token."""
    low: float | None = None
    """Lower end of the gain's interval. none: too few fresh runs for an interval."""
    high: float | None = None
    """Upper end of the gain's interval."""
    runs: int = 1
    """Runs of the move. 1: the trial of the search. More: fresh runs."""


class Coordinate(Record):
    """One hyperparameter around the chosen configuration."""

    name: str
    """The hyperparameter."""
    value: Value
    """Its chosen value."""
    tried: tuple[Value, ...] = ()
    """Other values with results, diverged ones too."""
    untried: tuple[Value, ...] = ()
    """Values of the grid without a result."""
    impossible: tuple[Value, ...] = ()
    """Values of the grid that no run can have: a warm-up longer than the run."""
    edge: str = ""
    """lower or upper, if the chosen value is the outermost one of a grid that could go on."""
    best: Move | None = None
    """The move along this coordinate with the largest gain."""


class Near(Record):
    """A configuration whose loss is within the tolerance of the lowest."""

    hyperparameters: dict[str, Value]
    """The configuration."""
    loss: float
    """Its loss."""


class Certificate(Record):
    """What shows that a contestant was tuned in a cell, or what is missing.

    Every configuration tried whose true loss is within the tolerance of the chosen one's is in ``near_optimal`` or in
    ``not_excluded``.
    """

    contestant: str
    """Name of the contestant."""
    cell: str
    """Name of the cell. Empty in a contest of one cell."""
    configuration: dict[str, Value] = Field(default_factory=dict)
    """The chosen configuration. Empty while nothing is chosen, and when everything diverged."""
    loss: float | None = None
    """Mean loss over the final seeds. none until there are any."""
    tuning_loss: float | None = None
    """Loss of the configuration in the search."""
    tolerance: float
    """Gain, in nats per token, up to which a configuration counts as equally good."""
    near_optimal: tuple[Near, ...] = ()
    """Configurations observed within the tolerance of the lowest loss."""
    not_excluded: tuple[Near, ...] = ()
    """Further configurations that noise may hide."""
    coordinates: tuple[Coordinate, ...] = ()
    """Every hyperparameter of the search, around the configuration."""
    largest: Move | None = None
    """The single move with the largest gain."""
    trials: int = 0
    """Trials of the search."""
    fresh: int = 0
    """Runs on fresh seeds."""
    failures: int = 0
    """Attempts that crashed or hung."""
    tokens: int = 0
    """Tokens of the trials and the fresh runs."""
    seconds: float = 0.0
    """Seconds of their training."""
    sigma: float | None = None
    """Standard deviation of one run's loss over seeds."""
    sigma_low: float | None = None
    """Lower end of its interval."""
    sigma_high: float | None = None
    """Upper end of its interval."""
    degrees: int = 0
    """Degrees of freedom that sigma was estimated from."""
    level: float = 0.95
    """Probability that all statements about losses are true together."""
    rate_regret: float | None = None
    """Nats that the chosen learning rate loses to the best one, by the curvature of the search. none: not known."""
    rate_regret_deviation: float | None = None
    """Standard deviation of rate_regret."""
    notes: tuple[str, ...] = ()
    """What a reader should know, in sentences."""
    missing: tuple[str, ...] = ()
    """What keeps this from being a proof, in sentences."""

    @property
    def edges(self) -> list[str]:
        """Hyperparameters whose chosen value is the outermost one tried."""
        return [coordinate.name for coordinate in self.coordinates if coordinate.edge]

    @property
    def certified(self) -> bool:
        """Nothing is missing, and no single-coordinate move gains more than the tolerance."""
        return not self.missing and (self.largest is None or (self.largest.high or 0.0) <= self.tolerance)

    @property
    def statement(self) -> str:
        """What has been shown, in one sentence."""
        if not self.configuration:
            return "Nothing is chosen." if self.missing else "Every configuration diverged."
        if self.missing:
            return f"Not certified: {len(self.missing)} thing(s) missing."
        move, level = self.largest, f"{100 * self.level:g} %"
        if move is None or move.high is None or move.low is None:
            return "Certified: no single-coordinate move has a finite loss."
        if move.high <= self.tolerance:
            return f"Certified: no single-coordinate move gains more than {self.tolerance:g} ({level})."
        if move.low > self.tolerance:
            return f"Not tuned: a single move ({move.name} to {move.value}) gains at least {move.low:.4f} ({level})."
        value = value_text(move.value)
        found = f"No tried neighbour was better; the nearest ({move.name} {value}) was {-move.gain:.4f} worse"
        if move.gain > 0:
            found = f"The best single move ({move.name} to {value}) was {move.gain:.4f} better"
        return f"{found}. Open: a gain of up to {move.high:.4f} is not excluded ({level}); more fresh seeds narrow it."

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    def text(self) -> str:
        """For a terminal, a few lines."""
        lines = [f"{self.contestant}{f' in {self.cell}' if self.cell else ''}: {self.statement}"]

        def say(label: str, value: str) -> None:
            lines.append(f"  {label:16} {value}")

        if self.configuration:
            say("configuration", words(self.configuration))
            say("loss", f"{_number(self.loss)} over fresh seeds, {_number(self.tuning_loss)} in the search")
            near = f"{len(self.near_optimal)} within {self.tolerance:g} of the best"
            say("near-optimal", f"{near}, {len(self.not_excluded)} more that noise does not exclude")
        for coordinate in self.coordinates:
            say(coordinate.name, _line(coordinate))
        if self.largest is not None:
            say("best move", _move(self.largest))
        if self.sigma is not None:
            interval = f"[{_number(self.sigma_low)}, {_number(self.sigma_high)}]"
            say("sigma", f"{self.sigma:.4f} {interval}, {self.degrees} degrees of freedom")
        if self.rate_regret is not None:
            say(
                "rate regret",
                f"{self.rate_regret:.4f} ± {self.rate_regret_deviation or 0.0:.4f} between the rates tried",
            )
        elif self.configuration:
            say("rate regret", "not known: the rates tried give no curvature around the chosen one")
        again = f", {self.failures} failed attempts" if self.failures else ""
        say("effort", f"{self.trials} trials, {self.fresh} fresh runs{again}, {self.tokens:,} tokens")
        for note in self.notes:
            say("note", note)
        for sentence in self.missing:
            say("missing", sentence)
        return "\n".join(lines)


def words(configuration: Mapping[str, Value]) -> str:
    """A configuration as name=value, name=value."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in configuration.items())


def _line(coordinate: Coordinate) -> str:
    tried = ", ".join(map(value_text, coordinate.tried)) or "nothing"
    text = f"{value_text(coordinate.value)}, against {tried}"
    if coordinate.best is not None:
        text += f"; best {_move(coordinate.best)}"
    if coordinate.untried:
        text += f"; untried {', '.join(map(value_text, coordinate.untried))}"
    if coordinate.impossible:
        text += f"; cannot run {', '.join(map(value_text, coordinate.impossible))}"
    return text + (f"; at its {coordinate.edge} edge" if coordinate.edge else "")


def _move(move: Move) -> str:
    interval = "" if move.low is None else f", gain in [{_number(move.low)}, {_number(move.high)}]"
    gain = f"{abs(move.gain):.4f} {'better' if move.gain > 0 else 'worse'}"
    return f"{move.name} to {value_text(move.value)}: {gain}{interval}"


def value_text(value: object) -> str:
    """The value of a hyperparameter, a number with six digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4f}"
