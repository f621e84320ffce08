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

from fairstep.optim.rule import Hyper
from fairstep.optim.spec import Hyperparameter, OptimizerSpec
from fairstep.optim.wrappers.base import WrappedRule, Wrapper, wrap_parts

if TYPE_CHECKING:
    from torch import Tensor


class TailRule(WrappedRule):
    suffix = "tail"
    own_state = "N"
    own_flops = "3 N tail_fraction"
    own_uses = ("tail_fraction", "schedule_steps")

    def init(self, param: Tensor, hyper: Hyper) -> dict[str, Any]:
        return {**self.inner.init(param, hyper), "tail": param.clone()}

    def move(
        self, weights: Tensor, step: Callable[[Tensor], None], state: dict[str, Any], hyper: Hyper, count: int
    ) -> None:
        self.inner.move(weights, step, state, hyper, count)
        taken = count - _start(hyper)
        if taken > 0:
            state["tail"].lerp_(self.inner.evaluation_weights(weights, state, hyper, count), 1 / taken)

    def evaluation_weights(self, weights: Tensor, state: dict[str, Any], hyper: Hyper, count: int) -> Tensor:
        if count > _start(hyper):
            return state["tail"]
        return self.inner.evaluation_weights(weights, state, hyper, count)

    def state_floats(self, o: int, i: int, hyper: Hyper) -> int:
        return self.inner.state_floats(o, i, hyper) + o * i

    def flops(self, o: int, i: int, hyper: Hyper) -> float:
        return self.inner.flops(o, i, hyper) + 3.0 * o * i * hyper["tail_fraction"]


def _start(hyper: Hyper) -> int:
    """Steps before the average begins."""
    return round((1 - hyper["tail_fraction"]) * hyper["schedule_steps"])


def tail(spec: OptimizerSpec) -> OptimizerSpec:
    return replace(spec, parts=wrap_parts(spec, TailRule))


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
    wrap=tail,
)
