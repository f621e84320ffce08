"""Schedule-free averaging: the gradient is taken between the iterate and its average, and the average is evaluated.

z is the iterate, x its average, and the parameters hold y, all equal at the start. With s the whole step that the rule
inside takes at y (lr u and weight decay), b = sf_beta, and lr the learning rate of this step:

    w = t^r max(lr so far)^p,   c = w / (sum of all w)        r = sf_step_power, p = sf_lr_power
    z <- z - s
    x <- (1 - c) x + c z
    W <- (1 - b) z + b x                                     (y of the next step)

``eval()`` puts x = (y - (1 - b) z) / b into the parameters, ``train()`` puts y back.

A. Defazio et al., "The Road Less Scheduled", arXiv 2405.15682. Optimizer state: 1 float per parameter more.

b takes the place of the momentum, so set the momentum of the rule inside to 0, if it has one, to have the published
form. Learning-rate decay is not needed, and warm-up is part of lr. Differences from other implementations: the maximum
of lr and the sum of w belong to each parameter and not to its group, so that parameters that come late have theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Hyperparameter, OptimizerSpec, Schedule, UnknownOptimizerError
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class ScheduleFreeRule(WrappedRule):
    suffix = "schedule-free"
    floats_per_element = 1
    flops_per_element = 7

    def init(self, param: Tensor, *, context: Context) -> dict[str, Any]:
        return {**call(self.inner.init, context, param), "z": param.clone(), "lr_max": 0.0, "weight_sum": 0.0}

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        lr: float,
        sf_beta: float,
        sf_step_power: float,
        sf_lr_power: float,
        context: Context,
    ) -> None:
        z, before = state["z"], weights.clone()
        call(self.inner.move, context, weights, descend, state, step)
        taken = before.sub(weights)  # s
        state["lr_max"] = max(state["lr_max"], float(lr))
        weight = step**sf_step_power * state["lr_max"] ** sf_lr_power
        state["weight_sum"] += weight
        c = weight / state["weight_sum"] if state["weight_sum"] else 0.0
        # y without x: (1 - c) y + c z - (1 - b (1 - c)) s
        torch.lerp(before, z, c, out=weights).sub_(taken, alpha=1 - sf_beta * (1 - c))
        z.sub_(taken)

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], step: int, *, sf_beta: float) -> Tensor:
        return torch.lerp(state["z"], weights, 1 / sf_beta)


def schedule_free(spec: OptimizerSpec) -> OptimizerSpec:
    """Raises UnknownOptimizerError if the optimizer is schedule-free already: both would keep their z as one."""
    if spec.schedule is SCHEDULE:
        raise UnknownOptimizerError(f"{spec.name} is schedule-free by itself; leave the wrapper schedule-free out")
    return replace(spec, parts=wrap_parts(spec, ScheduleFreeRule), schedule=SCHEDULE)


SCHEDULE = Schedule("constant", 0.1, 1.0, "constant after warm-up, arXiv 2405.15682; S; warm-up as for AdamW")
POWERS = {
    "sf_step_power": Hyperparameter(0.0, "power r of the step in w", "the authors' default", "[0, inf)"),
    "sf_lr_power": Hyperparameter(2.0, "power p of the largest learning rate in w", "the authors' default", "[0, inf)"),
}

SCHEDULE_FREE = Wrapper(
    name="schedule-free",
    aliases=("sf",),
    title="schedule-free averaging",
    reference="Defazio et al. 2024, https://arxiv.org/abs/2405.15682",
    order=40,
    hyperparameters={
        "sf_beta": Hyperparameter(0.9, "where y lies, from z (0) to x (1)", "arXiv 2405.15682", "(0, 1]"),
        **POWERS,
    },
    wrap=schedule_free,
)
