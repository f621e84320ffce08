"""NAdamW: AdamW that looks one step of its momentum ahead.

    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    n  = a m + b g                                            by ``form``:
         a = beta1 / (1 - beta1^(t+1)),   b = (1 - beta1) / (1 - beta1^t)       optax
         a = beta1 / (1 - beta1^t),       b = (1 - beta1) / (1 - beta1^t)       algoperf
         a = mu_(t+1) / (1 - P_(t+1)),    b = (1 - mu_t) / (1 - P_t)            dozat
    u  = n / (sqrt(v / (1 - beta2^t)) + eps)
    W <- (1 - lr lambda) W - lr u

with mu_t = beta1 (1 - 0.96^(0.004 t) / 2) and P_t = mu_1 mu_2 ... mu_t in the last form.

T. Dozat, "Incorporating Nesterov Momentum into Adam" (ICLR workshop 2016),
openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
Optimizer state: 2 floats per parameter.

Differences from other implementations: three algorithms carry the name, 10 to 30 % apart after 20 steps. The
default is optax's, which is also W's. "algoperf" is what the AlgoPerf benchmark and timm have, "dozat" is torch's
NAdam with decoupled decay, whose momentum is warmed up over some hundred steps.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fairstep.optim._lazy import torch
from fairstep.optim.roles import ROLES
from fairstep.optim.rule import State
from fairstep.optim.rules.adamw import AdamWRule
from fairstep.optim.spec import Grid, Hyperparameter, OptimizerSpec, Part, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class NAdamWRule(AdamWRule):
    name = "nadamw"
    flops_per_element = 13

    def update(  # type: ignore[override]
        self, grad: Tensor, state: State, param: Tensor, step: int, *, beta1: float, beta2: float, eps: float, form: str
    ) -> Tensor:
        m, v = state["m"], state["v"]
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        a, b = _weights(form, beta1, step)
        # b, which is never 0, is divided out: two scalars instead of one more pass over the vector.
        denominator = v.sqrt().mul_(1 / (b * (1 - beta2**step) ** 0.5)).add_(eps / b)
        return torch.div(torch.add(grad, m, alpha=a / b), denominator, out=denominator)


def _weights(form: str, beta1: float, step: int) -> tuple[float, float]:
    """a and b, the weights of m and g in the direction."""
    if form == "dozat":
        products = _products(beta1)
        while len(products) <= step + 1:
            products.append(products[-1] * _momentum(beta1, len(products)))
        ahead = _momentum(beta1, step + 1) / (1 - products[step + 1])
        return ahead, (1 - _momentum(beta1, step)) / (1 - products[step])
    b = (1 - beta1) / (1 - beta1**step)
    return beta1 / (1 - beta1 ** (step + 1 if form == "optax" else step)), b


def _momentum(beta1: float, step: int) -> float:
    return beta1 * (1 - 0.5 * 0.96 ** (0.004 * step))


@cache
def _products(beta1: float) -> list[float]:
    """[1, mu_1, mu_1 mu_2, ...], as far as it was needed."""
    return [1.0]


NADAMW = OptimizerSpec(
    name="nadamw",
    class_name="NAdamW",
    aliases=("nadam",),
    title="NAdamW",
    reference="Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ",
    parts=(Part(ROLES, NAdamWRule()),),
    hyperparameters={
        "lr": Hyperparameter(4e-3, "learning rate", "W, 1.2B; 8e-3 for smaller models", "(0, inf)"),
        "weight_decay": Hyperparameter(0.1, "decoupled weight decay", "W, all scales", "[0, inf)"),
        "beta1": Hyperparameter(0.95, "decay rate of the first moment", "W, 130M and 300M", "[0, 1)"),
        "beta2": Hyperparameter(0.98, "decay rate of the second moment", "W, all scales", "[0, 1)"),
        "eps": Hyperparameter(1e-8, "added to the root of the second moment", "optax; W has 1e-10", "[0, inf)"),
        "form": Hyperparameter(
            "optax", "how the step ahead is corrected (see the equations)", "W", ("optax", "algoperf", "dozat")
        ),
    },
    search_space={"lr": Grid.geometric(2e-3, 3, "AdamW's grid: W's best is 8e-3 for both, at 130M and 300M")},
    lr_unit="as AdamW",
    schedule=Schedule("cosine", 0.1, 0.0, "cosine to 0 is W's; warm-up as for AdamW"),
)
