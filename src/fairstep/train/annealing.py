"""The schedule of a run applied to an optimizer's param groups."""

from __future__ import annotations

from typing import Any

import torch

from fairstep.optim.spec.overrides import SCHEDULED
from fairstep.runs import ScheduleSpec, learning_rate_fraction
from fairstep.runs.frozen import is_number


class Annealer:
    """Sets the learning rate and the ramped hyperparameters of every param group before a step.

    A param group may have parts of the schedule otherwise (``optim.spec.overrides``). Optimizers of ours remember their
    peaks; for others build it before a saved state is loaded. Raises ValueError for a ramp of a hyperparameter that no
    param group has.
    """

    def __init__(self, schedule: ScheduleSpec, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.optimizer, self.steps = optimizer, steps
        groups = optimizer.param_groups
        self.schedules = [schedule.with_own({n: group[n] for n in SCHEDULED if n in group}) for group in groups]
        self.peaks: list[float] = [float(group.get("peak_lr", group["lr"])) for group in groups]
        # Groups by their place: load_state_dict of torch's optimizers puts new ones into theirs.
        self.given: list[tuple[Any, int, float]] = []
        for ramp in schedule.ramps:
            places = [place for place, group in enumerate(groups) if ramp.hyperparameter in group]
            if not places:
                known = sorted({key for group in groups for key, value in group.items() if is_number(value)})
                raise ValueError(
                    f"the schedule ramps {ramp.hyperparameter!r}, which this optimizer has not; "
                    f"it has {', '.join(known)}"
                )
            given = {place: groups[place][ramp.hyperparameter] for place in places}
            self.given += [(ramp, place, value) for place, value in given.items() if value != 0]

    def apply(self, step: int) -> None:
        """For the step about to be taken, 0 .. steps - 1."""
        groups = self.optimizer.param_groups
        fractions = {one: learning_rate_fraction(one, step, self.steps) for one in self.schedules}
        for group, peak, schedule in zip(groups, self.peaks, self.schedules, strict=True):
            group["lr"] = peak * fractions[schedule]
        for ramp, place, given in self.given:
            groups[place][ramp.hyperparameter] = ramp.value(given, step, self.steps)
