"""AdamW: Adam with decoupled weight decay.

    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    u  = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
    W <- (1 - lr lambda) W - lr u

D. Kingma, J. Ba, "Adam", arXiv 1412.6980; I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization",
arXiv 1711.05101. Optimizer state: 2 floats per parameter.

Differences from other implementations: eps is added outside the root and after bias correction, as in torch and optax.
Codes that add it to the uncorrected root have an eps that is larger by 1/sqrt(1 - beta2^t) in the first steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import Rule, State
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class AdamWRule(Rule):
    name = "adamw"
    elementwise = True
    moments = ("m", "v")
    eight_bit = (("m", "signed"), ("v", "positive"))
    flops_per_element = 12

    def update(
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float
    ) -> Tensor | None:
        m, v = state["m"], state["v"]
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        # m's correction is folded into the denominator: two scalars instead of one more pass over the vector.
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        denominator = v.sqrt().mul_(correction1 / correction2**0.5).add_(eps * correction1)
        return torch.div(m, denominator, out=denominator)


ADAMW = OptimizerSpec(
    name="adamw",
    class_name="AdamW",
    aliases=("adam-w",),
    title="AdamW",
    reference="Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101",
    parts=(Part(ROLES, AdamWRule()),),
    hyperparameters={
        "lr": Hyperparameter(1e-3, "learning rate", "S, 124M scripts", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "S and W, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.9, "decay rate of the first moment", "W, all scales; S from 210M on", "[0, 1)"),
        "beta2": Hyperparameter(
            0.95, "decay rate of the second moment", "common for language models; W default", "[0, 1)"
        ),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment", "arXiv 1412.6980; S", "[0, inf)"),
    },
    search_space={
        "lr": Grid.geometric(
            2e-3, 3, "around 4e-3, our best at width 64 in 512 steps (docs/log.md); W has 8e-3 at 130M"
        ),
    },
    lr_unit="change of a weight per step while its gradient keeps its sign; root mean square 0.2 to 0.4 in practice",
    schedule=Schedule(
        "cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up is ours, between S (2 %) and W (40 %) at their shortest"
    ),
)


_AS_ADAMW = "as adamw, so that contestants differ in the matrices' rule only"
COMPANION_SETTINGS = {
    "adam_lr_ratio": Hyperparameter(1.0, "learning rate of the AdamW part over lr", _AS_ADAMW, "(0, inf)"),
    "adam_beta1": Hyperparameter(0.9, "AdamW part: decay rate of the first moment", _AS_ADAMW, "[0, 1)"),
    "adam_beta2": Hyperparameter(0.95, "AdamW part: decay rate of the second moment", _AS_ADAMW, "[0, 1)"),
    "adam_eps": Hyperparameter(1e-8, "AdamW part: added to the root", _AS_ADAMW, "[0, inf)"),
}
"""Hyperparameters of the AdamW in ``with_companion``."""


def with_companion(rule: Rule) -> tuple[Part, Part]:
    """A rule for matrices, and AdamW for embedding, head and vectors."""
    rename = {name: f"adam_{name}" for name in AdamWRule().hyperparameters}
    return (
        Part(("matrix", "expert", "router"), rule),
        Part(("embedding", "head", "vector"), AdamWRule(), rename=rename, lr_ratio="adam_lr_ratio"),
    )
