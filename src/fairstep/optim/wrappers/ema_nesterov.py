"""EMA-Nesterov: steps start from a point ahead, in the direction that the weights have been moving for long.

With A the step of the rule inside (and everything that it does with the weights), and W the point at which the gradient
is taken and which the parameters hold:

    W_t  = theta_t + b_t m_t
    theta_(t+1) = A(W_t)
    m_(t+1)     = gamma m_t + (1 - gamma) (theta_(t+1) - theta_t)
    W <- theta_(t+1) + b_(t+1) m_(t+1)

b_t = nesterov_step lr_t / lr_0 in the middle of the run, and 0 in its first nesterov_warmup_fraction, while m fills,
and in its last nesterov_rest_fraction. With T = schedule_steps = 0 the middle is everything. ``eval()`` puts theta into
the parameters, ``train()`` puts W back.

C.-Y. Yau et al., "EMA-Nesterov: Stabilizing Nesterov's Lookahead for Accelerated Deep Learning Optimization", arXiv
2605.25395. Optimizer state: 1 float per parameter more.

theta_t is not stored but taken back from W_t: equal up to one rounding. lr of the next step is not known yet when the
point ahead is chosen, so b uses the lr of the step just taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fairstep.optim._lazy import torch
from fairstep.optim.rule import Context, call
from fairstep.optim.spec import Hyperparameter
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class EMANesterovRule(WrappedRule):
    suffix = "ema-nesterov"
    floats_per_element = 1
    flops_per_element = 8

    def init(self, param: Tensor, *, context: Context) -> dict[str, Any]:
        return {**call(self.inner.init, context, param), "drift": torch.zeros_like(param), "ahead": 0.0}

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        lr: float,
        nesterov_step: float,
        nesterov_decay: float,
        nesterov_warmup_fraction: float,
        nesterov_rest_fraction: float,
        schedule_steps: int,
        context: Context,
    ) -> None:
        drift = state["drift"]
        behind = weights.sub(drift, alpha=state["ahead"])
        call(self.inner.move, context, weights, descend, state, step)
        drift.lerp_(torch.sub(weights, behind, out=behind), 1 - nesterov_decay)
        first, last = nesterov_warmup_fraction * schedule_steps, (1 - nesterov_rest_fraction) * schedule_steps
        in_the_middle = not schedule_steps or first <= step < last
        state["ahead"] = float(nesterov_step * lr / context.peak_lr) if in_the_middle else 0.0
        weights.add_(drift, alpha=state["ahead"])

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], step: int, *, context: Context) -> Tensor:
        if state["ahead"]:
            weights = weights.sub(state["drift"], alpha=state["ahead"])
        return call(self.inner.evaluation_weights, context, weights, state, step)


_SCRIPTS = "the authors' scripts for Llama 1B with Muon"

EMA_NESTEROV = Wrapper(
    name="ema-nesterov",
    title="EMA-Nesterov",
    reference="Yau et al. 2026, https://arxiv.org/abs/2605.25395",
    order=50,
    hyperparameters={
        "nesterov_step": Hyperparameter(
            0.5, "how far ahead, in drifts m, at the first learning rate", _SCRIPTS, "[0, inf)"
        ),
        "nesterov_decay": Hyperparameter(0.99, "decay rate gamma of the drift", "the authors' default", "[0, 1)"),
        "nesterov_warmup_fraction": Hyperparameter(0.3, "first share of the run without it", _SCRIPTS, "[0, 1]"),
        "nesterov_rest_fraction": Hyperparameter(0.2, "last share of the run without it", _SCRIPTS, "[0, 1]"),
        "schedule_steps": Hyperparameter(0, "steps T of the run; 0: always ahead", "the run's steps", "[0, inf)", True),
    },
    wrap=lambda spec: replace(spec, parts=wrap_parts(spec, EMANesterovRule)),
)
