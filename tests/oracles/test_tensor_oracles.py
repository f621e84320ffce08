"""Rules that look across a tensor against implementations that we did not write (``make test-oracles``).

See ``test_oracles`` for what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.oracles.problem import LR, MATRICES, TWO_DIMENSIONAL, Optimizers, Oracle, Params, away_from_zero, check, timm

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are not ours to fix


def heavyball_cautious_adamw(p: Params) -> Optimizers:
    import heavyball

    heavyball.utils.compile_mode = None
    settings = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "caution": True}
    return [heavyball.AdamW(p.values(), lr=LR, **settings)]


def timm_cautious_adamw(p: Params) -> Optimizers:
    settings = {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.1, "caution": True}
    return [timm("adamw").AdamWLegacy(p.values(), lr=LR, **settings)]


def pytorch_optimizer_cautious_lion(p: Params) -> Optimizers:
    import pytorch_optimizer

    return [pytorch_optimizer.Lion(p.values(), lr=LR, betas=(0.9, 0.99), weight_decay=0.1, cautious=True)]


def timm_cautious_lion(p: Params) -> Optimizers:
    return [timm("lion").Lion(p.values(), lr=LR, betas=(0.9, 0.99), weight_decay=0.1, caution=True)]


def pytorch_optimizer_mars(p: Params, kind: str, eps: float = 1e-8) -> Optimizers:
    import pytorch_optimizer

    settings = {"betas": (0.95, 0.99), "gamma": 0.025, "weight_decay": 0.1, "eps": eps}
    return [pytorch_optimizer.MARS(p.values(), lr=LR, lr_1d=LR, mars_type=kind, **settings)]


def timm_mars(p: Params) -> Optimizers:
    settings = {"betas": (0.95, 0.99), "gamma": 0.025, "weight_decay": 0.1}
    return [timm("mars").Mars(p.values(), lr=LR, mars_type="adamw", **settings)]


def pytorch_optimizer_scion(p: Params, constraint: bool) -> Optimizers:
    import pytorch_optimizer
    from pytorch_optimizer.optimizer.scion import LMONorm

    def group(names: tuple[str, ...], norm: LMONorm, scale: float, **settings: bool) -> dict[str, Any]:
        return {"params": [p[n] for n in names], "norm_type": norm, "norm_kwargs": settings, "scale": scale}

    groups = [
        group(MATRICES, LMONorm.SPECTRAL, 5.0),
        group(("head",), LMONorm.SIGN, 30.0),
        group(("embedding",), LMONorm.COL, 2.0, transpose=True),
        group(("norm", "bias"), LMONorm.BIAS, 1.5),
    ]
    return [pytorch_optimizer.SCION(groups, lr=LR, momentum=0.1, constraint=constraint)]


def official_adam_mini(p: Params) -> Optimizers:
    """Its partition goes by names: of heads of 4 rows, of rows, of whole tensors, of elements."""
    import adam_mini

    named = {"embedding": "embed", "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "up": "mlp.up"}
    named |= {"down": "mlp.down", "head": "lm_head"}
    settings = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "dim": 16, "n_heads": 4, "verbose": False}
    return [adam_mini.Adam_mini([(named.get(n, n), w) for n, w in p.items()], lr=LR, **settings)]


ADAMW = {"beta1": 0.9, "weight_decay": 0.1}
LION = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
MARS = {"gamma": 0.025, "beta1": 0.95, "weight_decay": 0.1, "vector_lr_ratio": 1.0}
MARS_ADAMW = {**MARS, "beta2": 0.99}
CLIPPED_AT_FIRST = tuple(n for n in TWO_DIMENSIONAL if n not in ("embedding", "q"))
"""Matrices whose first gradient is surely longer than 1, where it does not matter by what timm multiplies it."""
RADII = {"hidden_radius": 5.0, "head_radius": 30.0, "embedding_radius": 2.0, "vector_radius": 1.5}
SCION = {"momentum": 0.9, "outer_momentum": 0.9, "embedding_norm": "row", **RADII}

ORACLES = [
    Oracle(
        "adam-mini",
        "adam_mini.Adam_mini",
        official_adam_mini,
        1e-12,
        {**ADAMW, "beta2": 0.95, "eps": 1e-8, "head_size": 4},
        undecayed=("vector",),
    ),
    Oracle(
        "cautious-adamw",
        "heavyball.AdamW, caution",
        heavyball_cautious_adamw,
        1e-4,
        {**ADAMW, "beta2": 0.95, "eps": 1e-8},
        dtype=torch.float32,
    ),
    Oracle(
        "cautious-adamw",
        "timm AdamWLegacy, caution",
        timm_cautious_adamw,
        1e-12,
        {**ADAMW, "beta2": 0.999, "eps": 1e-6},
    ),
    Oracle("cautious-lion", "pytorch_optimizer.Lion, cautious", pytorch_optimizer_cautious_lion, 1e-12, LION),
    Oracle("cautious-lion", "timm Lion, caution", timm_cautious_lion, 1e-12, {**LION, "cautious_scale": "mean"}),
    Oracle(
        "mars-adamw",
        "pytorch_optimizer.MARS adamw, eps 0",
        partial(pytorch_optimizer_mars, kind="adamw", eps=0.0),
        1e-8,
        {**MARS_ADAMW, "eps": 0.0, "vector_eps": 0.0},
        gradient=away_from_zero,
    ),
    Oracle("mars-adamw", "timm Mars adamw", timm_mars, 1e-12, MARS_ADAMW, CLIPPED_AT_FIRST),
    Oracle(
        "mars-lion",
        "pytorch_optimizer.MARS lion",
        partial(pytorch_optimizer_mars, kind="lion"),
        1e-12,
        MARS,
        TWO_DIMENSIONAL,
    ),
    Oracle(
        "mars-shampoo",
        "pytorch_optimizer.MARS shampoo",
        partial(pytorch_optimizer_mars, kind="shampoo"),
        1e-6,
        MARS,
        TWO_DIMENSIONAL,
    ),
    Oracle(
        "scion",
        "pytorch_optimizer.SCION, constrained",
        partial(pytorch_optimizer_scion, constraint=True),
        1e-6,
        {**SCION, "weight_decay": 1.0},
    ),
    Oracle(
        "scion",
        "pytorch_optimizer.SCION",
        partial(pytorch_optimizer_scion, constraint=False),
        1e-6,
        {**SCION, "weight_decay": 0.0},
    ),
]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: f"{oracle.ours}-{oracle.name}")
def test_agrees(oracle: Oracle, no_narrowing: None, record: Callable[..., None]) -> None:
    check(oracle, record)
