"""Certificate: the proof that a contestant was tuned in a cell, or what it lacks.

The report reads it from the ledger; ``study/certify.py`` makes it. All losses and gains are nats per token. Every
interval is simultaneous at ``level``: with that probability all statements of one certificate about losses are true.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from fairstep.runs.frozen import Value


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Move(_Record):
    """A change of one hyperparameter of the chosen configuration. ``gain`` is how much lower its loss is.

    ``low`` and ``high`` are None where there are too few fresh runs for an interval. ``runs`` of the move: 1 is the
    trial of the search, more are fresh ones.
    """

    name: str
    value: Value
    gain: float
    low: float | None = None
    high: float | None = None
    runs: int = 1


class Coordinate(_Record):
    """One hyperparameter around the chosen configuration.

    ``tried`` are the values with results, diverged ones too; ``untried`` those of the grid without; ``impossible``
    those that cannot be run (a warm-up longer than the run). ``edge``: lower or upper if the chosen value is the
    outermost one of a grid that could go on.
    """

    name: str
    value: Value
    tried: tuple[Value, ...] = ()
    untried: tuple[Value, ...] = ()
    impossible: tuple[Value, ...] = ()
    edge: str = ""
    best: Move | None = None


class Near(_Record):
    """A configuration whose loss is within the tolerance of the lowest."""

    hyperparameters: dict[str, Value]
    loss: float


class Certificate(_Record):
    """``configuration`` is empty while nothing is chosen, and when everything diverged.

    ``loss`` is the mean over the final seeds, None until there are any. ``near_optimal`` are the configurations
    observed within the tolerance of the lowest; ``not_excluded`` are others that noise may hide: every configuration
    tried whose true loss is within the tolerance of the chosen one's is in one of the two. ``sigma`` is the deviation
    of one run over seeds, from ``degrees`` degrees of freedom. ``missing`` says in sentences what keeps this from being
    a proof.
    """

    contestant: str
    cell: str
    configuration: dict[str, Value] = {}
    loss: float | None = None
    tuning_loss: float | None = None
    tolerance: float
    near_optimal: tuple[Near, ...] = ()
    not_excluded: tuple[Near, ...] = ()
    coordinates: tuple[Coordinate, ...] = ()
    largest: Move | None = None
    trials: int = 0
    fresh: int = 0
    failures: int = 0
    tokens: int = 0
    seconds: float = 0.0
    sigma: float | None = None
    sigma_low: float | None = None
    sigma_high: float | None = None
    degrees: int = 0
    level: float = 0.95
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

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
        return (
            f"Open: a single-coordinate move may gain up to {move.high:.4f}, more than {self.tolerance:g} ({level}); "
            f"more fresh seeds narrow it."
        )

    def to_json(self) -> str:
        return self.model_dump_json(indent=1)

    def text(self) -> str:
        """For a terminal, a few lines."""
        lines = [f"{self.contestant}{f' in {self.cell}' if self.cell else ''}: {self.statement}"]

        def say(label: str, value: str) -> None:
            lines.append(f"  {label:17}{value}")

        if self.configuration:
            say("configuration", words(self.configuration))
            say("loss", f"{_number(self.loss)} over fresh seeds, {_number(self.tuning_loss)} in the search")
            near = f"{len(self.near_optimal)} within {self.tolerance:g} of the best"
            say("near-optimal", f"{near}, {len(self.not_excluded)} more that noise does not exclude")
        for coordinate in self.coordinates:
            say(coordinate.name, _line(coordinate))
        if self.largest is not None:
            say("largest gain", _move(self.largest))
        if self.sigma is not None:
            interval = f"[{_number(self.sigma_low)}, {_number(self.sigma_high)}]"
            say("sigma", f"{self.sigma:.4f} {interval}, {self.degrees} degrees of freedom")
        again = f", {self.failures} failed attempts" if self.failures else ""
        say("effort", f"{self.trials} trials, {self.fresh} fresh runs{again}, {self.tokens:,} tokens")
        for note in self.notes:
            say("note", note)
        for sentence in self.missing:
            say("missing", sentence)
        return "\n".join(lines)


def words(configuration: dict[str, Value]) -> str:
    """A configuration as name=value, name=value."""
    return ", ".join(f"{name}={_value(value)}" for name, value in configuration.items())


def _line(coordinate: Coordinate) -> str:
    text = f"{_value(coordinate.value)}, against {', '.join(map(_value, coordinate.tried)) or 'nothing'}"
    if coordinate.best is not None:
        text += f"; best {_move(coordinate.best)}"
    if coordinate.untried:
        text += f"; untried {', '.join(map(_value, coordinate.untried))}"
    if coordinate.impossible:
        text += f"; cannot run {', '.join(map(_value, coordinate.impossible))}"
    return text + (f"; at its {coordinate.edge} edge" if coordinate.edge else "")


def _move(move: Move) -> str:
    interval = "" if move.low is None else f" [{_number(move.low)}, {_number(move.high)}]"
    return f"{move.name} to {_value(move.value)}: {move.gain:+.4f}{interval}"


def _value(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "unknown" if value is None or not math.isfinite(value) else f"{value:.4f}"
