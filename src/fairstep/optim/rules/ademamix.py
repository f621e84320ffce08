"""AdEMAMix: Adam with a second, slow momentum.

    m1 <- beta1 m1 + (1 - beta1) g
    m2 <- beta3(t) m2 + (1 - beta3(t)) g
    v  <- beta2 v + (1 - beta2) g^2
    u   = (m1 / (1 - beta1^t) + alpha(t) m2) / (sqrt(v / (1 - beta2^t)) + eps)
    W  <- (1 - lr lambda) W - lr u

With T = schedule_steps and a = min(t / T, 1), alpha(t) = a alpha, and the time constant -1 / ln beta3(t) goes linearly
from beta1's to beta3's:

    1 / ln beta3(t) = (1 - a) / ln beta1 + a / ln beta3

T is meant to be the length of the run. With T = 0 both have their final values from the first step on.

M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", arXiv 2409.03137.
Optimizer state: 3 floats per parameter.

Differences from other implementations: one T for both schedules (as in every script of S). The official code adds 1e-8
inside the logarithms, which changes weights by 3e-6 in 20 steps. optax hands schedules a count that starts at 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class AdEMAMixRule(Rule):
    name = "ademamix"
    elementwise = True
    moments = ("m1", "m2", "v")
    flops_per_element = 16

    def update(
        self,
        grad: Tensor,
        state: State,
        param: Tensor,
        step: int,
        *,
        beta1: float,
        beta2: float,
        beta3: float,
        alpha: float,
        schedule_steps: int,
        eps: float,
    ) -> Tensor:
        alpha, beta3 = scheduled(step, schedule_steps, alpha, beta1, beta3)
        m1, m2, v = state["m1"], state["m2"], state["v"]
        m1.lerp_(grad, 1 - beta1)
        m2.lerp_(grad, 1 - beta3)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        # As in AdamW, the correction of m1 is folded into the scalars.
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        denominator = v.sqrt().mul_(correction1 / correction2**0.5).add_(eps * correction1)
        return torch.div(torch.add(m1, m2, alpha=alpha * correction1), denominator, out=denominator)


def scheduled(step: int, steps: int, alpha: float, beta1: float, beta3: float) -> tuple[float, float]:
    """alpha and beta3 of this step, from their final values."""
    if step >= steps:
        return alpha, beta3
    a = step / steps
    # Time constants instead of 1 / ln beta, so that beta = 0 is a number (0) and not an error.
    first, last = (-1 / math.log(beta) if beta else 0.0 for beta in (beta1, beta3))
    constant = (1 - a) * first + a * last
    return a * alpha, math.exp(-1 / constant) if constant else 0.0


ADEMAMIX = OptimizerSpec(
    name="ademamix",
    class_name="AdEMAMix",
    title="AdEMAMix",
    reference="Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137",
    parts=(Part(ROLES, AdEMAMixRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "S, all scales", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "arXiv 2409.03137; S", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the fast momentum", "arXiv 2409.03137; S", "[0, 1)"),
        "beta2": Hyperparameter(0.999, "decay rate of the second moment", "arXiv 2409.03137; S", "[0, 1)"),
        "beta3": Hyperparameter(
            0.999,
            "decay rate of the slow momentum",
            "S, below 32 thousand steps; arXiv 2409.03137 has 0.9999",
            "[0, 1)",
        ),
        "alpha": Hyperparameter(8.0, "weight of the slow momentum", "S, all scales", "[0, inf)"),
        "schedule_steps": Hyperparameter(
            0,
            "steps T in which alpha and beta3 reach their values; 0: at once",
            "the run's steps in S",
            "[0, inf)",
            True,
        ),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment", "arXiv 2409.03137; S", "[0, inf)"),
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: S has 1e-3 for both at every scale")},
    lr_unit="as AdamW where the slow momentum has not built up; up to 1 + alpha times as much where it has",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine is S's; warm-up as for AdamW"),
)
