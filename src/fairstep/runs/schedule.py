"""ScheduleSpec: learning rate, weight decay and momentum over the steps of a run, as pure functions without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fairstep.runs.frozen import Frozen

Fraction = Annotated[float, Field(ge=0, le=1)]
ScheduleKind = Literal["cosine", "linear", "power", "wsd", "inverse_sqrt", "constant"]
DecayShape = Literal["1-sqrt", "linear", "cosine", "mirror-cosine", "1-square", "power", "exponential"]


class Ramp(Frozen):
    """A hyperparameter other than the learning rate over the steps, in its own unit.

    In the middle of the run the hyperparameter has the optimizer's value. Param groups that lack the hyperparameter, or
    have it at 0 (undecayed parameters), are left alone. Examples: momentum from 0.85 up in 300 steps; weight decay down
    to 0 in the last fifth.
    """

    hyperparameter: str
    """Key of the optimizer's param groups."""
    start: float = 0.0
    """Value at the first step, if ``start_steps`` is not 0."""
    start_steps: Annotated[int, Field(ge=0)] = 0
    """Steps from ``start`` to the optimizer's value. 0: no ramp at the start."""
    end: float = 0.0
    """Value that the step behind the last one would have, if ``end_steps`` is not 0."""
    end_steps: Annotated[int, Field(ge=0)] = 0
    """Steps from the optimizer's value to ``end``. 0: no ramp at the end."""
    shape: Literal["linear", "cosine"] = "linear"
    """linear: a straight line. cosine: half a cosine."""

    def value(self, given: float, step: int, steps: int) -> float:
        """The value at step 0 .. steps - 1 where ``given`` is the optimizer's own: ``start`` at step 0, ``given`` from
        step ``start_steps`` on, and on the way to ``end``, which step ``steps`` would have."""
        if step < self.start_steps:
            return self._between(self.start, given, step / self.start_steps)
        if step > steps - self.end_steps:
            return self._between(given, self.end, (step - steps + self.end_steps) / self.end_steps)
        return given

    def _between(self, first: float, last: float, part: float) -> float:
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return first + (last - first) * part


class ScheduleSpec(Frozen):
    """Learning rate over steps, as a fraction of the peak: warm-up, then the kind's decay.

    ``learning_rate_fraction`` has the equations.
    """

    kind: ScheduleKind = "cosine"
    """Course after the warm-up. wsd (warm-up, stable, decay) and inverse_sqrt decay in the last ``decay_fraction``."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of the warm-up."""
    final_fraction: Fraction = 0.0
    """Learning rate at the end, as a fraction of the peak."""
    decay_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Last part of all steps that decays, for the kinds wsd and inverse_sqrt."""
    decay_shape: DecayShape = "1-sqrt"
    """How wsd and inverse_sqrt decay."""
    power: Annotated[float, Field(gt=0)] = 1.0
    """Exponent of the kind power and of the decay shape power."""
    warmup_shape: Literal["linear", "half-cosine"] = "linear"
    """How the warm-up rises."""
    warmup_start: Fraction = 0.0
    """Learning rate at which the warm-up begins, as a fraction of the peak."""
    positions: Literal["open", "from_start", "closed"] = "open"
    """How steps are counted. open: no step has the rate of either end, and w warm-up steps are at 1/w, 2/w, ... 1.
    from_start: the first step has the start's rate, as in optax, in W's code, and in S's code for wsd. closed: the last
    step also has the final rate, as in torch's OneCycleLR and in S's code for cosine."""
    ramps: tuple[Ramp, ...] = ()
    """Other hyperparameters that change over the steps."""

    @model_validator(mode="after")
    def _exponential_has_an_end(self) -> ScheduleSpec:
        if self.decays_at_end and self.decay_shape == "exponential" and self.final_fraction == 0:
            raise ValueError("final_fraction must be positive for an exponential decay, which never reaches 0")
        return self

    def with_own(self, own: Mapping[str, Any]) -> ScheduleSpec:
        """With other values of some fields, for some parameters. Raises ValueError for values that cannot be, and for
        a ``decay_fraction`` where the kind has none."""
        if not own:
            return self
        if "decay_fraction" in own and not self.decays_at_end:
            raise ValueError(
                f"the schedule {self.kind} has no decay_fraction that some parameters could have otherwise; "
                "take wsd or inverse_sqrt"
            )
        return ScheduleSpec.model_validate(self.model_dump() | dict(own))

    @property
    def decays_at_end(self) -> bool:
        """Whether ``decay_fraction`` and ``decay_shape`` are used."""
        return self.kind in ("wsd", "inverse_sqrt")


def learning_rate_fraction(schedule: ScheduleSpec, step: int, steps: int) -> float:
    """Fraction of the peak learning rate at step t = 0 .. steps - 1 (the step about to be taken).

    With w warm-up steps, s their start and f the final fraction. Warm-up (t < w) at p = (t + 1) / w (open), t / w
    (from_start) or t / (w - 1) (closed):

    * linear: s + (1 - s) p
    * half-cosine: s + (1 - s) (1 - cos(pi p)) / 2

    Then, with u in [0, 1] the part of the remaining steps that is over, 1 one step after the last (closed: at it):

    * cosine: f + (1 - f) (1 + cos(pi u)) / 2
    * linear: 1 - (1 - f) u
    * power: f + (1 - f) (1 - u)^power
    * constant: 1
    * wsd: 1 (arXiv 2404.06395), inverse_sqrt: sqrt(w / (t + 1)), with w at least 1 (arXiv 1706.03762); both until the
      last ``decay_fraction`` of all steps, and over that part times d(u), u now counted within it

    The shapes d, from 1 to f: f + (1 - f) h with h = 1 - sqrt(u) | linear 1 - u | cosine (1 + cos(pi u)) / 2 |
    mirror-cosine 2 (1 - u) - (1 + cos(pi u)) / 2 | 1-square 1 - u^2 | power (1 - u)^power; and exponential f^u
    (arXiv 2405.18392; S section 6 and its code).
    """
    warmup, final, closed = schedule.warmup_steps, schedule.final_fraction, schedule.positions == "closed"
    if step < warmup:
        if closed:
            part = step / (warmup - 1) if warmup > 1 else 1.0
        else:
            part = (step + (schedule.positions == "open")) / warmup
        if schedule.warmup_shape == "half-cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return schedule.warmup_start + (1 - schedule.warmup_start) * part
    start = warmup
    top = 1.0
    if schedule.decays_at_end:
        start = max(warmup, steps - int(schedule.decay_fraction * steps))
        if schedule.kind == "inverse_sqrt":
            top = math.sqrt(max(warmup, 1) / max(step + 1, warmup))
        if step < start:
            return top
    if closed:  # the value of u = 0 was the step before
        start = max(start - 1, 0)
        steps = steps - 1
    part = (step - start) / (steps - start) if steps > start else 1.0
    match schedule.kind:
        case "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * part)) / 2
        case "linear":
            return 1 - (1 - final) * part
        case "power":
            return final + (1 - final) * (1 - part) ** schedule.power
        case "constant":
            return 1.0
        case _:
            return top * _decay(schedule, part)


def _decay(schedule: ScheduleSpec, u: float) -> float:
    final = schedule.final_fraction
    match schedule.decay_shape:
        case "1-sqrt":
            height = 1 - math.sqrt(u)
        case "linear":
            height = 1 - u
        case "cosine":
            height = (1 + math.cos(math.pi * u)) / 2
        case "mirror-cosine":
            height = 2 * (1 - u) - (1 + math.cos(math.pi * u)) / 2
        case "1-square":
            height = 1 - u * u
        case "power":
            height = (1 - u) ** schedule.power
        case "exponential":
            return final**u
    return final + (1 - final) * height
