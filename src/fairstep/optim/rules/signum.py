"""Signum: the sign of the momentum.

    m <- beta m + (1 - beta) g
    u  = sign(m)                                              plain
    u  = sign((1 - d) beta m + (1 - beta) g)                  with nesterov, d the dampening
    W <- (1 - lr lambda) W - lr u

J. Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", arXiv 1802.04434.
Optimizer state: 1 float per parameter. beta = 0 is signSGD. sign(0) = 0.

The same directions as with a sum b <- beta b + (1 - d) g and u = sign(g + beta b), or u = sign(b): a factor does not
change a sign, so that the dampening matters with nesterov only, where it is the weight that the past loses.

Differences from other implementations: the momentum starts at zero. The code of S starts it as a copy of the weights,
so that its first steps shrink the weights; its 124M script has neither its momentum 0.95 nor nesterov.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.maths.sign import sign
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class SignumRule(Rule):
    name = "signum"
    elementwise = True
    moments = ("m",)
    eight_bit = (("m", "signed"),)
    flops_per_element = 6

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, momentum: float, nesterov: bool, dampening: float
    ) -> Tensor:
        m = state["m"].lerp_(grad, 1 - momentum)
        if not nesterov:
            return sign(m)
        return sign(torch.add(grad, m, alpha=(1 - dampening) * momentum / (1 - momentum)))


SIGNUM = OptimizerSpec(
    name="signum",
    class_name="Signum",
    aliases=("sign-sgd",),
    title="Signum",
    reference="Bernstein et al. 2018, https://arxiv.org/abs/1802.04434",
    parts=(Part(ROLES, SignumRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "S, 124M", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "S, all scales", "[0, inf)"),
        "momentum": Hyperparameter(0.95, "decay rate beta of the momentum", "S, from 210M on", "[0, 1)"),
        "nesterov": Hyperparameter(True, "mix the gradient into the momentum once more", "S, from 210M on"),
        "dampening": Hyperparameter(0.0, "share of the past that the step ahead leaves out", "S", "[0, 1]"),
    },
    search_space={"lr": Grid.geometric(1e-3, 3, "Lion's grid: S has the same for both at every scale")},
    lr_unit="change of every weight per step, exactly",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine is S's; warm-up as for AdamW"),
)
