"""Sophia against implementations that we did not write (``make test-oracles``); see ``test_oracles`` for the measure.

All are given the same estimates of the curvature. The packages differ in when they refresh it, which a refresh after
every step hides; the official one is compared with a longer interval as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.oracles.problem import EVERYTHING, LR, SHAPES, STEPS, Optimizers, Oracle, Params, check
from torch import Tensor

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are not ours to fix

TOKENS = 512
RHO = 0.04


def sampled_gradient(name: str, step: int) -> Tensor:
    """What a gradient with labels from the model might be after ``step`` steps; nothing after none."""
    seed = 7000 + 100 * step + EVERYTHING.index(name)
    return bool(step) * 0.1 * torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(seed)).double()


def diagonal(name: str, step: int) -> Tensor:
    return TOKENS * sampled_gradient(name, step).square()


def ours(optimizer: Any) -> None:
    """Supply the estimate after the last step whenever it is due."""
    parameters = dict(optimizer.named_parameters())

    def supply(*_: Any) -> None:
        for signal, names in optimizer.due().items():
            steps = {name: optimizer.state[parameters[name]]["step"] for name in names}
            optimizer.supply(signal, {name: diagonal(name, steps[name]) for name in names})

    optimizer.register_step_pre_hook(supply)


def official(p: Params, interval: int) -> Optimizers:
    import sophia_opt

    class Loop(sophia_opt.SophiaG):
        """The authors' training loop: every k-th step is followed by an estimate."""

        taken = 0

        def step(self) -> None:
            super().step(bs=TOKENS)
            self.taken += 1
            if self.taken % interval == 0:
                for name, w in p.items():
                    w.grad = sampled_gradient(name, self.taken)
                self.update_hessian()

    return [Loop(p.values(), lr=LR, betas=(0.9, 0.99), rho=RHO, weight_decay=0.1)]


def pytorch_optimizer(p: Params) -> Optimizers:
    import pytorch_optimizer

    class Injected(pytorch_optimizer.SophiaH):
        taken = 0

        def step(self) -> None:
            super().step(hessian=[diagonal(name, self.taken) for name in p])
            self.taken += 1

    settings = {"betas": (0.9, 0.99), "p": RHO, "eps": 1e-6, "update_period": 1, "foreach": False}
    return [Injected(p.values(), lr=LR / RHO, weight_decay=0.1 * RHO, **settings)]


def optax_sophia(schedule: Any) -> Any:
    import jax.numpy as jnp
    import optax

    table = {name: jnp.stack([jnp.asarray(diagonal(name, t).numpy()) for t in range(STEPS + 1)]) for name in SHAPES}

    def update(grads: Any, count: Any, params: Any = None, **_: Any) -> Any:
        return {name: table[name][count + 1] for name in grads}, count + 1

    injector = optax.GradientTransformationExtraArgs(lambda _: jnp.zeros([], jnp.int32), update)
    settings = {"b1": 0.9, "b2": 0.99, "eps": 1e-7, "gamma": RHO, "weight_decay": 0.1, "update_interval": 1}
    return optax.contrib.sophia(schedule, hessian_diagonal_fn=injector, **settings)


G = {"beta1": 0.9, "beta2": 0.99, "rho": RHO, "weight_decay": 0.1}
H = {"beta1": 0.9, "beta2": 0.99, "gamma": RHO, "weight_decay": 0.1, "interval": 1}

ORACLES = [
    Oracle("sophia-g", "sophia_opt.SophiaG", partial(official, interval=1), 1e-12, {**G, "interval": 1}, prepare=ours),
    Oracle(
        "sophia-g", "sophia_opt.SophiaG, k=4", partial(official, interval=4), 1e-12, {**G, "interval": 4}, prepare=ours
    ),
    Oracle(
        "sophia-h",
        "pytorch_optimizer.SophiaH",
        pytorch_optimizer,
        1e-12,
        {**H, "debias": False, "eps": 1e-6 * RHO},
        prepare=ours,
    ),
    Oracle("sophia-h", "optax.contrib.sophia", optax_sophia, 1e-12, {**H, "eps": 1e-7}, prepare=ours),
]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: f"{oracle.ours}-{oracle.name}")
def test_agrees(oracle: Oracle, record: Callable[..., None]) -> None:
    check(oracle, record)
