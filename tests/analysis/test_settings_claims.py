"""Claims about settings on a store's variants: what decides them, in both directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fairstep.analysis.claims import claims, evaluate
from fairstep.analysis.claims.evidence import Cell, Evidence, Measured, Variant

BY_ID = {claim.id: claim for claim in claims()}
WIDTH = 0.001
BASE = {"lr": 0.01, "schedule": "cosine", "warmup_steps": 8, "final_fraction": 0.01, "clip_norm": 0.5}
Settings = tuple[dict[str, Any], float]


def variant(changed: Mapping[str, Any], loss: float, norms: Sequence[float] = ()) -> Variant:
    """``norms``: of the quarters of a run, on three seeds."""
    points = [(float(quarter + 1), norm) for quarter, norm in enumerate(norms)]
    curves = dict.fromkeys(range(3), points)
    return Variant({**BASE, **changed}, Measured(loss, WIDTH), lambda what: curves if points else {})


def cell(
    variants: Mapping[str, Sequence[Settings | Variant]],
    losses: Mapping[str, float] | None = None,
    tokens: float = 1e6,
    batch: float = 2e3,
    size: str = "27k",
    **model: float,
) -> Cell:
    made = {
        name: tuple(one if isinstance(one, Variant) else variant(*one) for one in several)
        for name, several in variants.items()
    }
    measured = {name: Measured(loss, WIDTH) for name, loss in (losses or {}).items()}
    facts = {"init_std": 0.02, "z_loss": 0.0, "experts": 0} | model
    return Cell(size, size, 27e3, batch, tokens, measured, variants=made, model=tuple(facts.items()), data="text")


def verdict(name: str, *cells: Cell) -> str:
    found = evaluate(BY_ID[name], Evidence("a store", cells, from_store=True))
    return found.verdict if found.answered else "no number"


def warm(short: float, middle: float, long: float) -> list[Settings]:
    return [({"warmup_steps": steps}, loss) for steps, loss in ((8, middle), (2, short), (32, long))]


def test_who_wants_a_longer_warmup() -> None:
    others = {"adamw": warm(3.0, 3.1, 3.2), "soap": warm(3.0, 3.1, 2.9)}
    assert verdict("F11", cell(others | {"lion": warm(3.3, 3.0, 2.9)})) == "holds"
    assert verdict("F11", cell(others | {"lion": warm(2.8, 2.9, 2.9)})) == "fails"
    assert verdict("F11", cell(others | {"signum": warm(3.0, 3.0005, 3.1)})) == "inconclusive"
    assert verdict("F11", cell(others | {"lion": warm(3.3, 3.15, 3.0)})) == "fails", "Lion does not pass AdamW"
    assert verdict("F11", cell({"adamw": [({}, 3.0)]})) == "no number"


def scheduled(cosine: float, linear: float, wsd: float) -> list[Settings]:
    return [
        ({}, cosine),
        ({"schedule": "linear"}, linear),
        ({"schedule": "wsd", "lr": 0.005}, wsd),
    ]


def test_cosine_is_best_for_most() -> None:
    most = {"adamw": scheduled(3.0, 3.1, 3.1), "ademamix": scheduled(3.0, 3.1, 3.1)}
    assert verdict("F12", cell(most)) == "holds"
    assert verdict("F12", cell(most | {"muon": scheduled(3.0, 3.1, 3.0)})) == "holds"
    assert verdict("F12", cell(most | {"muon": scheduled(3.0, 3.1, 3.1)})) == "fails"
    assert verdict("F12", cell(most | {"lion": scheduled(3.0, 3.003, 3.1)})) == "holds"
    assert verdict("F12", cell(most | {"lion": scheduled(3.0, 3.02, 3.1)})) == "fails"
    assert verdict("F12", cell({"adamw": scheduled(3.0, 2.9, 3.1)})) == "fails"
    assert verdict("F12", cell({"adamw": [({}, 3.0), ({"schedule": "linear"}, 3.1)]})) == "no number"


def test_schedule_free_against_two_schedules() -> None:
    variants = {"adamw": scheduled(3.0, 3.1, 3.2), "sf-adamw": [({"schedule": "constant"}, 3.1)]}
    losses = {"adamw": 3.0, "sf-adamw": 3.1}
    assert verdict("F13", cell(variants, losses)) == "holds"
    assert verdict("F13", cell(variants | {"adamw": scheduled(3.0, 3.1, 3.05)}, losses)) == "fails"


def ends(**by_schedule: tuple[float, float]) -> list[Settings]:
    return [
        ({"schedule": kind, "final_fraction": part, "lr": 0.005 if kind == "wsd" else 0.01}, loss)
        for kind, pair in by_schedule.items()
        for part, loss in zip((0.01, 0.1), pair, strict=True)
    ]


def test_the_end_of_the_learning_rate() -> None:
    assert verdict("F14", cell({"adamw": ends(cosine=(3.0, 3.1), wsd=(3.1, 3.2))})) == "holds"
    assert verdict("F14", cell({"adamw": ends(cosine=(3.0, 3.1), linear=(3.1, 3.0))})) == "fails"
    assert verdict("F14", cell({"adamw": [({}, 3.0), ({"final_fraction": 0.005}, 3.0)]})) == "no number"


COMMON = {"final_fraction": 0.1}


@pytest.mark.parametrize(
    ("adamw", "soap", "said"),
    [(3.4, 3.3, "holds"), (3.3, 3.4, "fails"), (3.3, 3.3005, "inconclusive"), (2.9, 2.8, "fails")],
)
def test_two_setups(adamw: float, soap: float, said: str) -> None:
    own = cell({"adamw": [({}, 3.0)], "soap": [({}, 3.1)]})
    other = {"adamw": [(COMMON, adamw)], "soap": [(COMMON, soap)]}
    assert verdict("F16", own, cell(other, z_loss=1e-4)) == said
    assert verdict("F16", own, cell(other)) == "no number"


def test_dense_rankings_on_experts() -> None:
    dense = cell({}, {"adamw": 3.1, "soap": 3.0})
    assert verdict("F19", dense, cell({}, {"adamw": 2.1, "soap": 2.0}, size="moe", experts=4)) == "holds"
    assert verdict("F19", dense, cell({}, {"adamw": 2.0, "soap": 2.1}, size="moe", experts=4)) == "fails"
    assert (
        verdict("F19", dense, cell({}, {"adamw": 2.1, "soap": 2.0}, size="moe", tokens=2e6, experts=4)) == "no number"
    )
    assert verdict("F15", dense, cell({}, {"adamw": 2.1, "soap": 2.0}, size="moe", experts=4)) == "no number"


def betas(small: float, large: float) -> dict[str, list[Settings]]:
    return {"soap": [({"beta2": 0.95}, small), ({"beta2": 0.99}, large)]}


def test_beta2_by_length() -> None:
    assert verdict("F20", cell(betas(3.0, 3.1)), cell(betas(2.0, 1.95), tokens=8e6)) == "holds"
    assert verdict("F20", cell(betas(3.0, 2.9)), cell(betas(2.0, 2.05), tokens=8e6)) == "fails"
    assert verdict("F20", cell(betas(3.0, 3.1)), cell(betas(2.0, 2.1005), tokens=8e6)) == "inconclusive"
    assert verdict("F20", cell(betas(3.0, 3.1)), cell(betas(2.0, 1.9), tokens=8e6, z_loss=1e-4)) == "no number"


def test_clipping_of_schedule_free() -> None:
    assert verdict("F21", cell({"sf-adamw": [({}, 3.0), ({"clip_norm": 0.0}, 3.1)]})) == "holds"
    assert verdict("F21", cell({"sf-adamw": [({}, 3.0), ({"clip_norm": 0.0}, math.nan)]})) == "holds"
    assert verdict("F21", cell({"sf-adamw": [({}, 3.0), ({"clip_norm": 0.0}, 2.9)]})) == "fails"


def test_prodigy_without_bias_correction() -> None:
    corrected = [({"beta2": 0.999, "bias_correction": True}, 3.0), ({"beta2": 0.9999, "bias_correction": True}, 3.1)]
    without = {"beta2": 0.9999, "bias_correction": False}
    assert verdict("F23", cell({"prodigy": [*corrected, (without, 3.5)]})) == "fails"
    assert verdict("F23", cell({"prodigy": [*corrected, (without, math.nan)]})) == "inconclusive", "its rate is missing"
    for highest, verdict_of_rate in ((0.015, "holds"), (0.06, "fails")):
        curves = {seed: [(1.0, 1e-6), (2.0, highest), (3.0, 0.0)] for seed in range(2)}
        found = Variant({**BASE, **corrected[0][0]}, Measured(3.0, WIDTH), {"effective_lr": curves}.__getitem__)
        variants = {"adamw": [({}, 3.0)], "prodigy": [found, corrected[1], (without, math.nan)]}
        assert verdict("F23", cell(variants)) == verdict_of_rate


def deviations(gain: float, best: float) -> list[Cell]:
    return [cell({"adamw": warm(best + gain, best + gain, best)}, init_std=0.006), cell({"adamw": warm(3.1, 3.1, 3.0)})]


def test_initial_deviations() -> None:
    assert verdict("F26", *deviations(0.2, 2.9)) == "holds"
    assert verdict("F26", *deviations(0.05, 2.9)) == "fails"
    assert verdict("F26", *deviations(0.2, 3.05)) == "fails"
    assert verdict("F26", deviations(0.2, 2.9)[0]) == "no number"


def normed(cosine: float, linear: float, wsd: float) -> Cell:
    """Norms of 1 in the second quarter, and so much in the last one."""
    kinds = {"cosine": cosine, "linear": linear, "wsd": wsd}
    return cell({"adamw": [variant({"schedule": kind}, 3.0, (1, 1, 1, end)) for kind, end in kinds.items()]})


def test_gradient_norms() -> None:
    assert verdict("F27", normed(1.5, 1.4, 1.1)) == "holds"
    assert verdict("F27", normed(1.5, 0.9, 0.8)) == "fails"
    assert verdict("F27", normed(1.5, 1.4, 1.45)) == "fails"
    assert verdict("F27", cell({"adamw": scheduled(3.0, 3.1, 3.2)})) == "no number"


def followed(final: float, norms: Sequence[float], losses: Sequence[float], sizes: Sequence[float] = ()) -> Variant:
    """A run of these gradient norms, losses and sizes of matrices in its quarters, on three seeds, with this final loss
    on fresh text."""
    curves = {"gradient_norm": norms, "loss": losses, "matrix_rms": sizes}
    points = {what: [(n + 1.0, value) for n, value in enumerate(values)] for what, values in curves.items() if values}
    runs, loss = dict.fromkeys(range(3), final), Measured(final, WIDTH, runs=dict.fromkeys(range(3), final))
    return Variant(
        BASE | {"weight_decay": 0.1}, loss, lambda what: dict.fromkeys(runs, points[what]) if what in points else {}
    )


def test_what_all_optimizers_share() -> None:
    grows, falls, follows = (1, 1, 1, 1.5), (4, 3.5, 3.2, 3.0), (1, 2, 2, 1.5)
    adamw = followed(3.1, grows, falls)
    pair = {"adamw": [followed(3.1, grows, falls, follows)], "lion": [followed(3.11, grows, falls, follows)]}
    assert verdict("W8", cell(pair)) == "holds"
    assert verdict("W8", cell(pair | {"lion": [followed(3.11, grows, falls, (1, 2, 2, 2.5))]})) == "fails", "they grow"
    assert verdict("W8", cell(pair | {"lion": [followed(3.11, grows, falls, (2, 2, 2, 1.5))]})) == "fails", (
        "they do not"
    )
    # Of stores that do not say how large matrices are, nothing can hold.
    assert verdict("W8", cell({"adamw": [adamw], "lion": [followed(3.11, grows, falls)]})) == "inconclusive"
    assert verdict("W8", cell({"adamw": [adamw], "lion": [followed(3.15, grows, falls)]})) == "fails", "another line"
    assert verdict("W8", cell({"adamw": [followed(3.1, (1, 1, 1, 0.9), falls)]})) == "fails", "the norm falls"
    assert verdict("W8", cell({"adamw": [followed(3.1, grows, (4, 3, 3, 3.2))]})) == "fails", "the loss rises"
    assert verdict("W8", cell({"adamw": scheduled(3.0, 3.1, 3.2)})) == "no number"


def test_a_common_learning_rate() -> None:
    common = {"adamw": [({}, 2.5), ({"lr": 6e-4}, 3.1)]}
    assert verdict("W1", cell({"adamw": [({}, 3.0)]}), cell(common, tokens=2e6)) == "holds"
    assert verdict("W1", cell({"adamw": [({}, 3.2)]}), cell(common, tokens=2e6)) == "fails"
    assert verdict("W1", cell({"adamw": [({}, 3.0)]}), cell(common, tokens=1.5e6)) == "no number"


def test_batches_explain_the_lead_of_mars() -> None:
    small = cell({}, {"mars": 3.0, "soap": 3.1}, batch=256)
    assert verdict("W12", small, cell({}, {"mars": 3.0, "soap": 3.05}, batch=2048)) == "holds"
    assert verdict("W12", small, cell({}, {"mars": 3.0, "soap": 3.2}, batch=2048)) == "fails"
    assert verdict("W12", small, cell({}, {"mars": 3.0, "soap": 3.0}, batch=1024)) == "no number"


def test_a_model_of_another_kind_is_no_other_length() -> None:
    """F3 and F6 compare lengths of one model."""
    losses = {"d-muon": 3.0, "ademamix": 3.1, "adamw": 3.2}
    other = cell({}, losses, tokens=8e6, z_loss=1e-4)
    assert verdict("F3", cell({}, losses), other) == "no number"
    assert verdict("F6", cell({}, losses), other) == "no number"
