"""Schedule-Free AdamW: AdamW whose momentum is replaced by averaging, and which needs no decay of the learning rate.

The parameters hold y; z starts at W and x is not stored. With d taken at y, lr this step's learning rate, and c the
weight of the new iterate in the average x (see ``wrappers.schedule_free`` for it and for x):

    v <- beta2 v + (1 - beta2) g^2
    d  = g / (sqrt(v / (1 - beta2^t)) + eps)
    z <- z - lr (d + lambda y)
    x <- (1 - c) x + c z
    W <- (1 - beta1) z + beta1 x                             (y of the next step)

``eval()`` puts x into the parameters and must be called before evaluation and export, ``train()`` before the next step.

A. Defazio et al., "The Road Less Scheduled", arXiv 2405.15682. Optimizer state: 2 floats per parameter.

Differences from other implementations: warm-up is the training loop's, and counts in c as the official warmup_steps
does (optax's is off by one step there). As in the official code, the bias correction is in d; in the paper's algorithm
1 it is in the learning rate, and so in c. With decay="cautious" or "independent" those forms are taken at y. S's loop
takes one gradient at x after every evaluation; here train() comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.rules.adamw import ADAMW
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part
from fairstep.optim.wrappers.schedule_free import POWERS, SCHEDULE, SCHEDULE_FREE, ScheduleFreeRule

if TYPE_CHECKING:
    from torch import Tensor


class SecondMomentRule(Rule):
    """AdamW without momentum: RMSprop with bias correction."""

    name = "second-moment"
    elementwise = True
    moments = ("v",)
    flops_per_element = 7

    def update(self, grad: Tensor, state: State, param: Tensor, step: int, *, beta2: float, eps: float) -> Tensor:
        v = state["v"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = v.div(1 - beta2**step).sqrt_().add_(eps)
        return torch.div(grad, denominator, out=denominator)


SCHEDULE_FREE_ADAMW = OptimizerSpec(
    name="schedule-free-adamw",
    class_name="ScheduleFreeAdamW",
    aliases=("sf-adamw", "schedulefree", "schedulefree-adamw", "adamw-schedulefree", "sfadamw"),
    title="Schedule-Free AdamW",
    reference=SCHEDULE_FREE.reference,
    parts=(Part(ROLES, ScheduleFreeRule(SecondMomentRule()), rename={"sf_beta": "beta1"}),),
    documented_in=(__name__,),
    hyperparameters={
        "lr": Hyperparameter(2.5e-3, "learning rate", "the authors' default", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay, at y", "S, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "where y lies, from z (0) to x (1)", "arXiv 2405.15682; S", "(0, 1]"),
        "beta2": Hyperparameter(0.9999, "decay rate of the second moment", "S, all scales", "[0, 1)"),
        "eps": ADAMW.hyperparameters["eps"],
        **POWERS,
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: S's best is 1e-3 for both at 124M")},
    lr_unit="as AdamW, for z; y moves about 1 - beta1 times as far",
    schedule=SCHEDULE,
)
