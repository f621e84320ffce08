"""The schedule of a run applied to an optimizer's param groups."""

from __future__ import annotations

from typing import Any

import torch

from fairstep.runs import ScheduleSpec, learning_rate_fraction


class Annealer:
    """Sets the learning rate and the ramped hyperparameters of every param group before a step.

    Build it before a saved state is loaded into the optimizer: the values that it finds are the peaks. Raises
    ValueError for a ramp of a hyperparameter that no param group has.
    """

    def __init__(self, schedule: ScheduleSpec, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.schedule, self.groups, self.steps = schedule, optimizer.param_groups, steps
        self.peaks: list[float] = [float(group["lr"]) for group in self.groups]
        self.given: list[tuple[Any, dict[str, Any], float]] = []
        for ramp in schedule.ramps:
            groups = [group for group in self.groups if ramp.hyperparameter in group]
            if not groups:
                known = sorted({key for group in self.groups for key, value in group.items() if _is_number(value)})
                raise ValueError(
                    f"the schedule ramps {ramp.hyperparameter!r}, which this optimizer has not; "
                    f"it has {', '.join(known)}"
                )
            self.given += [(ramp, g, g[ramp.hyperparameter]) for g in groups if g[ramp.hyperparameter] != 0]

    def apply(self, step: int) -> None:
        """For the step about to be taken, 0 .. steps - 1."""
        fraction = learning_rate_fraction(self.schedule, step, self.steps)
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * fraction
        for ramp, group, given in self.given:
            group[ramp.hyperparameter] = ramp.value(given, step, self.steps)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
