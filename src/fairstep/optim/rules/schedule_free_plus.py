"""ScheduleFree+: Schedule-Free AdamC whose learning rate is Polyak's, from the loss and the gradient.

The parameters hold y; z and x start at W, and x is not stored. With f the batch's loss, t = 1, 2, ..., sums over all
parameters, and Adam's bias-corrected m and v:

    b  = 1 - (1 - sf_beta)^(1 - q) (1 - sf_beta_max)^q,   q = min((t - 1) / sf_anneal_steps, 1), or 0 if they are 0
    e <- polyak_beta e + (1 - polyak_beta) sqrt(pi/2) sum |g|
    p  = max(0, f + b sum <g, z - x>) / (e / (1 - polyak_beta^t)),   s = lr p
    c  = 1 for t <= sf_warmup_steps, then w / (sum of all w so far) with w = t^r max(s so far)^2      r = sf_step_power
    z <- z - s^2 lambda y - s m / (sqrt(v) + eps)
    x <- (1 - c) x + c z
    W <- b x + (1 - b) z                                          (y of the next step)

``eval()`` puts x into the parameters and must be called before evaluation and export, ``train()`` before the next step.
f is the signal loss (see ``signals``): ``optimizer.supply("loss", loss)`` before a step, or ``step(closure)``. It is
the mean of all micro-batches and processes. The rule takes 0 for the least loss, so that an auxiliary loss enters it,
and gradients that are clipped enter p as they are clipped. lr is a factor that carries the warm-up.

A. Defazio, "ScheduleFree+", arXiv 2605.19095. Optimizer state: 3 floats per parameter.

Differences from other implementations: the authors' class keeps x and y beside z. It feeds the bias-corrected e back as
e, which at polyak_beta 0, its default, is the same. The largest s and the sum of w belong to each parameter, so that
parameters that come late have theirs. With decay="cautious", "corrected" or "independent" those forms are taken at y,
times s. Weight decays have another unit than AdamW's, because of s^2: 20 to 50, the authors say.
"""

from __future__ import annotations

from math import exp, log, pi, sqrt
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Context
from fairstep.optim.rules.adamw import ADAMW, AdamWRule
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part
from fairstep.optim.wrappers.schedule_free import SCHEDULE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


class ScheduleFreePlusRule(AdamWRule):
    name = "schedule-free-plus"
    one_lr = True
    floats_per_element = 3
    flops_per_element = 28

    def due(self, step: int) -> tuple[str, ...]:
        return ("loss",)

    def init(self, param: Tensor, *, eps: float) -> dict[str, Any]:
        moments = {name: torch.zeros_like(param) for name in self.moments}
        return {**moments, "z": param.clone(), "b": 1.0, "largest": eps, "weight_sum": 0.0}

    def shared(self) -> dict[str, float]:
        return {"steps": 0.0, "e": 0.0, "p": 0.0, "b": 1.0}

    def measure(self, grad: Tensor, state: dict[str, Any], param: Tensor) -> Tensor:
        """(sum <g, z - x>, sum |g|). y is b of the step before times x - z away from z."""
        inner = (state["z"] - param).mul_(grad).sum(dtype=torch.float64) / state["b"]
        return torch.stack((inner, grad.abs().sum(dtype=torch.float64)))

    def agree(
        self,
        sums: Sequence[float],
        *,
        sf_beta: float,
        sf_beta_max: float,
        sf_anneal_steps: int,
        polyak_beta: float,
        context: Context,
    ) -> dict[str, float]:
        inner, size = sums
        before = context.shared
        steps = before["steps"]
        q = min(steps / sf_anneal_steps, 1.0) if sf_anneal_steps else 0.0
        b = 1 - exp((1 - q) * log(1 - sf_beta) + q * log(1 - sf_beta_max))
        e = polyak_beta * before["e"] + (1 - polyak_beta) * sqrt(pi / 2) * size
        height = context.given["loss"] + b * inner
        # What is not a number stays one, so that a run that diverged says so.
        p = 0.0 if height <= 0 or e == 0 else height / (e / (1 - polyak_beta ** (steps + 1)))
        return {"steps": steps + 1, "e": e, "p": p, "b": b}

    def lr_factor(self, *, context: Context) -> float:
        return context.shared["p"]

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        lr: float,
        sf_warmup_steps: int,
        sf_step_power: float,
        context: Context,
    ) -> None:
        z, s, b = state["z"], float(lr) * context.shared["p"], context.shared["b"]
        x = torch.lerp(z, weights, 1 / state["b"])
        z.add_(_step(weights, descend, s))
        state["largest"] = max(state["largest"], s)
        c = 1.0
        if step > sf_warmup_steps:
            weight = step**sf_step_power * state["largest"] ** 2
            state["weight_sum"] += weight
            c = weight / state["weight_sum"] if state["weight_sum"] else 0.0
        torch.lerp(z, x, b * (1 - c), out=weights)
        state["b"] = b

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], step: int) -> Tensor:
        return torch.lerp(state["z"], weights, 1 / state["b"])


def _step(y: Tensor, descend: Callable[[Tensor], None], s: float) -> Tensor:
    """-s u - s D with D the decay that the engine takes at y, in proportion to s. Changes y."""
    before = y.clone()
    descend(y)  # y - D - s u
    step = torch.zeros_like(y)
    descend(step)  # -s u: what is 0 has no decay
    decayed = before.sub_(y).add_(step)  # D
    return step.sub_(decayed, alpha=s)


_PAPER, _CODE = "arXiv 2605.19095", "the authors' class"

SCHEDULE_FREE_PLUS = OptimizerSpec(
    name="schedule-free-plus",
    class_name="ScheduleFreePlus",
    aliases=("schedule-free+", "sf-plus", "sf+", "adamc-schedule-free-plus"),
    title="ScheduleFree+",
    reference=f"Defazio 2026, https://arxiv.org/abs/{_PAPER.removeprefix('arXiv ')}",
    parts=(Part(ROLES, ScheduleFreePlusRule()),),
    hyperparameters={
        "lr": Hyperparameter(1.0, "factor of Polyak's learning rate", _CODE, "(0, inf)"),
        "weight_decay": Hyperparameter(0.0, "decoupled weight decay, times s^2", _CODE, "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", _CODE, "[0, 1)"),
        "beta2": Hyperparameter(0.95, "decay rate of the second moment", _CODE, "[0, 1)"),
        "eps": ADAMW.hyperparameters["eps"],
        "sf_beta": Hyperparameter(0.9, "where y lies, from z (0) to x (1), at first", _CODE, "(0, 1)"),
        "sf_beta_max": Hyperparameter(0.965, "where it lies after sf_anneal_steps", _CODE, "(0, 1)"),
        "sf_anneal_steps": Hyperparameter(0, "steps from sf_beta to sf_beta_max; 0: always sf_beta", _CODE, "[0, inf)"),
        "sf_warmup_steps": Hyperparameter(
            0, "first steps that the average forgets", f"{_CODE}, which advises once or twice the warm-up", "[0, inf)"
        ),
        "sf_step_power": Hyperparameter(0.0, "power r of the step in w", f"{_CODE}; 2 for long runs", "[0, inf)"),
        "polyak_beta": Hyperparameter(0.0, "decay rate of the gradient's size e", _CODE, "[0, 1)"),
    },
    search_space={"lr": Grid.geometric(0.5, 3, "around the authors' 1")},
    lr_unit="factor of the learning rate that it finds itself, in AdamW's unit",
    schedule=SCHEDULE,
    signals=("loss",),
)
