"""EMA of the weights: training goes on as it would, and an exponential average of its weights is evaluated.

    a_t = sum of d^(t-k) W_k over k = 1 .. t, divided by the sum of the factors

that is, a <- a + (1 - d) / (1 - d^t) (W - a). ``eval()`` puts a into the parameters, ``train()`` puts W back.
B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992), with the exponential window
that is common now. Optimizer state: 1 float per parameter more.

Differences from other implementations: the division by the sum of the factors, without which the average would be the
random start of the run for its first 1 / (1 - d) steps; torch.optim.swa_utils gives that weight to W_1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Hyperparameter
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class EMARule(WrappedRule):
    suffix = "ema"
    floats_per_element = 1
    flops_per_element = 3

    def init(self, param: Tensor, *, context: Context) -> dict[str, Any]:
        return {**call(self.inner.init, context, param), "ema": param.clone()}

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        ema_decay: float,
        context: Context,
    ) -> None:
        call(self.inner.move, context, weights, descend, state, step)
        inside = call(self.inner.evaluation_weights, context, weights, state, step)
        state["ema"].lerp_(inside, (1 - ema_decay) / (1 - ema_decay**step))

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], step: int, *, context: Context) -> Tensor:
        ema: Tensor = state["ema"]
        return ema


EMA = Wrapper(
    name="ema",
    title="EMA of the weights",
    reference="Polyak and Juditsky 1992, https://doi.org/10.1137/0330046",
    order=60,
    hyperparameters={
        "ema_decay": Hyperparameter(0.99, "decay rate d of the average", "ours: a window of 100 steps", "[0, 1)"),
    },
    wrap=lambda spec: replace(spec, parts=wrap_parts(spec, EMARule)),
)
