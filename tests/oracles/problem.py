"""What all comparisons with other implementations share: the problem, the loop, the measure.

The problem is shaped like a small transformer, its gradients A_t + kappa (W - W*) have scales of their own per
parameter, the learning rate varies and every parameter is decayed, so that momentum, decay and feedback all matter.
The disagreement is the largest over parameters of max|ours - theirs| / max|theirs - start|.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fairstep.optim import build

SHAPES = {
    "embedding": (40, 16),
    "q": (16, 16),
    "k": (16, 16),
    "v": (16, 16),
    "o": (16, 16),
    "up": (48, 16),
    "down": (16, 48),
    "norm": (16,),
    "bias": (48,),
    "head": (40, 16),
}
EVERYTHING = tuple(SHAPES)
MATRICES = ("q", "k", "v", "o", "up", "down")
REST = ("embedding", "norm", "bias", "head")
TWO_DIMENSIONAL = tuple(name for name, shape in SHAPES.items() if len(shape) == 2)
ROLES = {"embedding": "embedding", "head": "head"}
STEPS, LR = 25, 0.02
"""heavyball.SOAP takes 20 steps, all others 25."""

Params = dict[str, Tensor]
Optimizers = list[torch.optim.Optimizer]
Gradient = Callable[[str, Tensor, int], Tensor]


def start(names: Iterable[str], dtype: torch.dtype) -> Params:
    generator = torch.Generator().manual_seed(0)
    drawn = {n: 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in SHAPES.items()}
    return {n: drawn[n].to(dtype) for n in names}


def gradient(name: str, w: Tensor, step: int) -> Tensor:
    """A_t + kappa (W - W*), in a tensor of its own."""
    position = EVERYTHING.index(name)
    target, noise = (
        torch.randn(w.shape, generator=torch.Generator().manual_seed(seed + position), dtype=torch.float64)
        for seed in (10, 1000 * step)
    )
    return (2.0 ** (position - 5) * (noise + 0.3 * (w.detach().double() - target))).to(w.dtype)


def away_from_zero(name: str, w: Tensor, step: int) -> Tensor:
    """The same with every element moved away from zero by half its usual size."""
    g = gradient(name, w, step)
    return g + g.sign() * 2.0 ** (EVERYTHING.index(name) - 6)


def fraction(step: int) -> float:
    """Learning rate over its peak at step 1, 2, ...: five steps of warm-up, then a slow decay."""
    return min(1.0, step / 5) * (1 - step / (2 * STEPS))


def run(
    optimizers: Optimizers, params: Params, steps: int = STEPS, gradient: Gradient = gradient, evaluated: bool = False
) -> Params:
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    for step in range(1, steps + 1):
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * fraction(step)
        for name, p in params.items():
            p.grad = gradient(name, p, step)
        for optimizer in optimizers:
            optimizer.step()
    for optimizer in optimizers if evaluated else ():
        optimizer.eval()  # type: ignore[attr-defined]
    return {name: p.detach() for name, p in params.items()}


def run_optax(transform: Callable[[Callable[[Any], Any]], Any], weights: Params) -> Params:
    """``transform`` makes an optax transformation from a schedule, which counts steps from 0."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    jax.config.update("jax_enable_x64", True)
    table = jnp.asarray([LR * fraction(step) for step in range(1, STEPS + 1)], dtype=jnp.float64)
    transformation = transform(lambda count: table[count])
    params = {name: jnp.asarray(w.numpy()) for name, w in weights.items()}
    state, update = transformation.init(params), jax.jit(transformation.update)
    for step in range(1, STEPS + 1):
        now = {name: torch.from_numpy(np.array(w)) for name, w in params.items()}
        grads = {name: jnp.asarray(gradient(name, w, step).numpy()) for name, w in now.items()}
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return {name: torch.from_numpy(np.array(w)) for name, w in params.items()}


class FloatsAsDoubles:
    """torch for a module of others that should not narrow: its float32 is float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def timm(file: str) -> ModuleType:
    """One file of timm.optim. The package itself imports torchvision, so empty packages stand in for it."""
    if "timm" not in sys.modules:
        found = importlib.util.find_spec("timm")
        assert found and found.submodule_search_locations
        (folder,) = found.submodule_search_locations
        for name, path in (("timm", folder), ("timm.optim", f"{folder}/optim")):
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__path__ = [path]
    return importlib.import_module(f"timm.optim.{file}")


@dataclass(frozen=True)
class Oracle:
    """Another package's optimizer, our settings that match it, and the parameters on which they must agree."""

    ours: str
    name: str
    make: Callable[..., Any]
    tolerance: float
    hyper: dict[str, Any] = field(default_factory=dict)
    params: tuple[str, ...] = EVERYTHING
    dtype: torch.dtype = torch.float64
    steps: int = STEPS
    undecayed: tuple[str, ...] = ()
    gradient: Gradient = gradient
    evaluated: bool = False
    """Compare the weights to evaluate instead of those that are trained."""
    prepare: Callable[[Any], Any] = field(default=lambda optimizer: optimizer)
    """What to do with our optimizer before it runs, such as to see that it gets its signals."""


def check(oracle: Oracle, record: Callable[..., None]) -> None:
    """Run both, record the disagreement and hold it against the tolerance."""
    ours = {n: torch.nn.Parameter(w) for n, w in start(oracle.params, oracle.dtype).items()}
    roles = {n: role for n, role in ROLES.items() if n in oracle.params}
    hyper = {"lr": LR, **oracle.hyper}
    optimizer = build(oracle.ours, ours.items(), roles=roles, undecayed=oracle.undecayed, **hyper)
    oracle.prepare(optimizer)
    ours_after = run([optimizer], ours, oracle.steps, oracle.gradient, oracle.evaluated)
    first = start(oracle.params, oracle.dtype)
    if oracle.name.startswith("optax"):
        theirs_after = run_optax(oracle.make, first)
    else:
        theirs = {n: torch.nn.Parameter(w.clone()) for n, w in first.items()}
        theirs_after = run(oracle.make(theirs), theirs, oracle.steps, oracle.gradient, oracle.evaluated)
    measured = max(
        ((ours_after[n] - theirs_after[n]).abs().max() / (theirs_after[n] - w).abs().max()).item()
        for n, w in first.items()
    )
    record((oracle.ours, oracle.name, str(oracle.dtype).removeprefix("torch."), measured, oracle.tolerance))
    assert measured < oracle.tolerance
