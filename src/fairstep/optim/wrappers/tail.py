"""Tail averaging: the weights of the last steps of a run are averaged with equal factors, and the average is evaluated.

With T = schedule_steps, meant to be the length of the run, and s = (1 - tail_fraction) T, in steps t > s:

    a <- a + (W - a) / (t - s)

Before that the training weights are evaluated. With T = 0 the average begins with the first step. ``eval()`` puts a
into the parameters, ``train()`` puts W back. P. Jain et al., "Parallelizing Stochastic Gradient Descent for Least
Squares Regression: mini-batching, averaging, and model misspecification", arXiv 1610.03774; as stochastic weight
averaging, P. Izmailov et al., arXiv 1803.05407. Optimizer state: 1 float per parameter more.
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


class TailRule(WrappedRule):
    suffix = "tail"
    floats_per_element = 1
    flops_formula = "3 N tail_fraction"

    def init(self, param: Tensor, *, context: Context) -> dict[str, Any]:
        return {**call(self.inner.init, context, param), "tail": param.clone()}

    def move(
        self,
        weights: Tensor,
        descend: Callable[[Tensor], None],
        state: dict[str, Any],
        step: int,
        *,
        tail_fraction: float,
        schedule_steps: int,
        context: Context,
    ) -> None:
        call(self.inner.move, context, weights, descend, state, step)
        taken = step - _start(tail_fraction, schedule_steps)
        if taken > 0:
            state["tail"].lerp_(call(self.inner.evaluation_weights, context, weights, state, step), 1 / taken)

    def evaluation_weights(
        self,
        weights: Tensor,
        state: dict[str, Any],
        step: int,
        *,
        tail_fraction: float,
        schedule_steps: int,
        context: Context,
    ) -> Tensor:
        if step > _start(tail_fraction, schedule_steps):
            tail: Tensor = state["tail"]
            return tail
        return call(self.inner.evaluation_weights, context, weights, state, step)

    def flops(  # type: ignore[override]
        self, o: int, i: int, *, tail_fraction: float, context: Context
    ) -> float:
        return call(self.inner.flops, context, o, i) + 3.0 * o * i * tail_fraction


def _start(tail_fraction: float, schedule_steps: int) -> int:
    """Steps before the average begins."""
    return round((1 - tail_fraction) * schedule_steps)


TAIL = Wrapper(
    name="tail",
    aliases=("tail-averaging", "swa"),
    title="tail averaging",
    reference="Jain et al. 2016, https://arxiv.org/abs/1610.03774",
    order=70,
    hyperparameters={
        "tail_fraction": Hyperparameter(0.1, "share of the run whose weights are averaged", "ours", "(0, 1]"),
        "schedule_steps": Hyperparameter(
            0, "steps T of the run; 0: average from the first step", "the run's steps", "[0, inf)", True
        ),
    },
    wrap=lambda spec: replace(spec, parts=wrap_parts(spec, TailRule)),
)
