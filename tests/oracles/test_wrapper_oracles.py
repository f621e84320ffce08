"""Wrappers, and the rules that average or find their learning rate, against implementations that we did not write.

See ``test_oracles`` for what is measured. Where training and evaluation weights differ, both are compared (the latter
are marked x). heavyball's HyperBallAdamW has no momentum and puts every matrix on a ball, so it is compared without
momentum and on the hidden ones.

Not here: heavyball.SFAdamW weights the average by the learning rate now and not by the largest so far, which is another
algorithm under a schedule; optax's schedule-free takes no schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.oracles.problem import LR, MATRICES, Optimizers, Oracle, Params, check

from fairstep.optim.maths.newton_schulz import newton_schulz

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are not ours to fix

SCHEDULE_FREE = {"betas": (0.9, 0.95), "weight_decay": 0.1}


def training(optimizer: Any) -> Optimizers:
    optimizer.train()
    return [optimizer]


def official_schedule_free(p: Params, name: str = "AdamWScheduleFree") -> Optimizers:
    import schedulefree

    return training(getattr(schedulefree, name)(list(p.values()), lr=LR, **SCHEDULE_FREE))


def pytorch_optimizer_schedule_free(p: Params) -> Optimizers:
    import pytorch_optimizer

    return training(pytorch_optimizer.ScheduleFreeAdamW(list(p.values()), lr=LR, **SCHEDULE_FREE))


def pytorch_optimizer_schedule_free_wrapper(p: Params) -> Optimizers:
    import pytorch_optimizer

    inner = torch.optim.AdamW(p.values(), lr=LR, betas=(0.5, 0.95), weight_decay=0.0)
    return training(pytorch_optimizer.ScheduleFreeWrapper(inner, momentum=0.9))


def official_prodigy(p: Params, bias_correction: bool, safeguard_warmup: bool) -> Optimizers:
    import prodigyopt

    settings = {"use_bias_correction": bias_correction, "safeguard_warmup": safeguard_warmup, "weight_decay": 0.1}
    return [prodigyopt.Prodigy(p.values(), lr=1.0, **settings)]


def pytorch_optimizer_prodigy(p: Params) -> Optimizers:
    import pytorch_optimizer

    return [pytorch_optimizer.Prodigy(p.values(), lr=1.0, weight_decay=0.1, bias_correction=True)]


def optax_prodigy(schedule: Any) -> Any:
    import optax

    return optax.contrib.prodigy(lambda count: schedule(count) / LR, weight_decay=0.1)


def pytorch_optimizer_normuon(p: Params, update_scale: str) -> Optimizers:
    import pytorch_optimizer

    groups = [{"params": list(p.values()), "use_muon": True}]
    return [pytorch_optimizer.NorMuon(groups, lr=LR, weight_decay=0.1, update_scale=update_scale)]


def pytorch_optimizer_cubic_muon(p: Params) -> Optimizers:
    import pytorch_optimizer

    groups = [{"params": list(p.values()), "use_muon": True}]
    return [pytorch_optimizer.Muon(groups, lr=LR, weight_decay=0.1, ns_steps=8, ns_coeffs=(1.5, -0.5, 0.0))]


def heavyball_adamw(p: Params, name: str, **settings: Any) -> Optimizers:
    import heavyball

    heavyball.utils.compile_mode = None
    return [getattr(heavyball, name)(p.values(), lr=LR, betas=(0.9, 0.95), eps=1e-8, **settings)]


def pytorch_optimizer_adamc(p: Params) -> Optimizers:
    """Its eps meets the uncorrected root, so that it is 0 on both sides."""
    import pytorch_optimizer

    groups = [
        {"params": [w for n, w in p.items() if (n in MATRICES) == normalized], "normalized": normalized}
        for normalized in (True, False)
    ]
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.5, "weight_decouple": True, "eps": 0.0}
    return [pytorch_optimizer.AdamC(groups, lr=LR, **settings)]


LOGITS = torch.tensor([150.0, 80.0, 400.0, -20.0])
"""Of four heads in every step: some above QK-clip's threshold of 100."""


def pytorch_optimizer_muonclip(p: Params) -> Optimizers:
    import pytorch_optimizer

    sides = {"q": "query", "k": "key"}
    clipped = [{"params": [p[n]], "use_muon": True, "attention_name": "a", "qk_clip": s} for n, s in sides.items()]
    groups = [*clipped, {"params": [w for n, w in p.items() if n not in sides], "use_muon": True}]
    optimizer = pytorch_optimizer.MuonClip(groups, lr=LR, weight_decay=0.1)
    optimizer.step = partial(optimizer.step, attention_max_logits={"a": LOGITS})
    return [optimizer]


def with_logits(optimizer: Any) -> Any:
    """Ours, supplied before each step."""

    def supply(optimizer: Any, *_: Any) -> None:
        for signal, names in optimizer.due().items():
            optimizer.supply(signal, dict.fromkeys(names, LOGITS))

    optimizer.register_step_pre_hook(supply)
    return optimizer


SF = {"beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1}
MUON = {"weight_decay": 0.1}
ADAMW = {"beta1": 0.9, "beta2": 0.95}

ORACLES = [
    *(
        Oracle("schedule-free-adamw", f"{name}{', x' * x}", make, tolerance, SF, evaluated=x)
        for x in (False, True)
        for name, make, tolerance in [
            ("schedulefree.AdamWScheduleFree", official_schedule_free, 1e-12),
            (
                "schedulefree.AdamWScheduleFreeReference",
                partial(official_schedule_free, name="AdamWScheduleFreeReference"),
                1e-12,
            ),
            ("pytorch_optimizer.ScheduleFreeAdamW", pytorch_optimizer_schedule_free, 1e-7),
        ]
    ),
    *(
        Oracle(
            "adamw+schedule-free",
            f"pytorch_optimizer.ScheduleFreeWrapper of torch's AdamW{', x' * x}",
            pytorch_optimizer_schedule_free_wrapper,
            1e-12,
            {"beta1": 0.5, "beta2": 0.95, "weight_decay": 0.0},
            evaluated=x,
        )
        for x in (False, True)
    ),
    *(
        Oracle(
            "prodigy",
            f"prodigyopt.Prodigy{', bias correction' * correction}{', safeguard' * safeguard}",
            partial(official_prodigy, bias_correction=correction, safeguard_warmup=safeguard),
            1e-9,
            {"lr": 1.0, "weight_decay": 0.1, "bias_correction": correction, "safeguard_warmup": safeguard},
        )
        for correction in (False, True)
        for safeguard in (False, True)
    ),
    Oracle(
        "prodigy",
        "pytorch_optimizer.Prodigy, bias correction",
        pytorch_optimizer_prodigy,
        1e-5,
        {"lr": 1.0, "weight_decay": 0.1},
    ),
    Oracle("prodigy", "optax.contrib.prodigy", optax_prodigy, 1e-8, {"lr": 1.0, "weight_decay": 0.1}),
    Oracle(
        "normuon",
        "pytorch_optimizer.NorMuon, match_rms",
        partial(pytorch_optimizer_normuon, update_scale="match_rms"),
        1e-6,
        MUON,
        MATRICES,
    ),
    Oracle(
        "normuon",
        "pytorch_optimizer.NorMuon, preserve_norm",
        partial(pytorch_optimizer_normuon, update_scale="preserve_norm"),
        1e-6,
        {**MUON, "scale": "shape"},
        ("q", "k", "v", "o", "down"),  # it does not multiply tall matrices by sqrt(o/i)
    ),
    Oracle(
        "muon",
        "pytorch_optimizer.Muon, cubic",
        pytorch_optimizer_cubic_muon,
        1e-6,
        {**MUON, "ns_coefficients": "cubic", "ns_steps": 8},
        MATRICES,
    ),
    Oracle(
        "adamw+hyperball",
        "heavyball.HyperBallAdamW",
        partial(heavyball_adamw, name="HyperBallAdamW"),
        1e-4,
        {**ADAMW, "beta1": 0.0},
        MATRICES,
        torch.float32,
    ),
    Oracle(
        "adamc", "pytorch_optimizer.AdamC", pytorch_optimizer_adamc, 1e-6, {**ADAMW, "weight_decay": 0.5, "eps": 0.0}
    ),
    Oracle(
        "adamc",
        "heavyball.AdamC",
        partial(heavyball_adamw, name="AdamC", max_lr=LR, weight_decay=0.5),
        1e-4,
        {**ADAMW, "weight_decay": 0.5},
        MATRICES,  # it takes all parameters for normalised
        torch.float32,
    ),
    Oracle(
        "muonclip",
        "pytorch_optimizer.MuonClip",
        pytorch_optimizer_muonclip,
        1e-6,
        MUON,
        MATRICES,
        prepare=with_logits,
    ),
    Oracle(
        "adamw+cautious-decay",
        "heavyball.AdamW, cautious_weight_decay",
        partial(heavyball_adamw, name="AdamW", cautious_weight_decay=True, weight_decay=0.5),
        1e-4,
        {**ADAMW, "weight_decay": 0.5},
        dtype=torch.float32,
    ),
]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: f"{oracle.ours}-{oracle.name}")
def test_agrees(oracle: Oracle, no_narrowing: None, record: Callable[..., None]) -> None:
    check(oracle, record)


@pytest.mark.parametrize("steps", [1, 5, 10])
def test_polar_express(steps: int) -> None:
    """Coefficients as heavyball has them, iterated by pytorch-optimizer."""
    from heavyball.utils import ABC_LIST_STABLE
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5 as theirs

    g = torch.randn(3, 12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = theirs(g, steps, eps=0.0, safety_factor=1.01, weights=ABC_LIST_STABLE, dtype=torch.float64)
    ours = newton_schulz(g, steps, eps=0.0, coefficients="polar-express")
    assert (ours - expected).abs().max() < 1e-13 * expected.abs().max()
