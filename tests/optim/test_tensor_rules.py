"""The rules that look across a tensor against their literal twins, as in ``test_rules``."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import SHAPES, Twin, difference
from torch import Tensor, nn

from fairstep.optim import build, get


@pytest.mark.parametrize("scale", ["mean", "count"])
def test_cautious_adamw(scale: str) -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.cautious_adamw(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.9, 1e-3, scale)

    hyper = {"weight_decay": 0.2, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "cautious_scale": scale}
    measured = difference("cautious-adamw", {}, lambda _: twin, 0.03, **hyper)
    assert max(measured.values()) < 1e-12, measured


@pytest.mark.parametrize("scale", ["mean", "count"])
def test_cautious_lion(scale: str) -> None:
    def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.cautious_lion(w, g, s, 0.03 * fraction, 0.5, 0.8, 0.9, scale)

    hyper = {"weight_decay": 0.5, "beta1": 0.8, "beta2": 0.9, "cautious_scale": scale}
    measured = difference("cautious-lion", {}, lambda _: twin, 0.03, **hyper)
    assert max(measured.values()) < 1e-12, measured


@pytest.mark.parametrize(("scale", "factor"), [("mean", 1000.0), ("count", 2048.0)])
def test_cautious_scale_has_a_limit(scale: str, factor: float) -> None:
    """One element of 4096 that agrees: the mean has a floor of a thousandth, the count is one too many."""
    w = torch.nn.Parameter(torch.zeros(64, 64, dtype=torch.float64))
    hyper = {"lr": 1.0, "beta1": 0.9, "beta2": 0.0, "weight_decay": 0.0, "cautious_scale": scale}
    optimizer = build("cautious-lion", [("w", w)], **hyper)
    for g in (torch.ones_like(w), -torch.ones_like(w)):
        before = w.detach().clone()
        w.grad = g.detach().clone()
        w.grad[3, 5] = 1.0
        optimizer.step()
    moved = w.detach() - before
    assert moved[3, 5].item() == pytest.approx(-factor) and moved.count_nonzero() == 1


def test_cautious_experts_have_masks_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    stack, singles = torch.nn.Parameter(start.clone()), [torch.nn.Parameter(w.clone()) for w in start]
    optimizers = build("cautious", [("experts", stack)]), build("cautious", singles)
    for _ in range(4):
        stack.grad = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        for single, g in zip(singles, stack.grad, strict=True):
            single.grad = g.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(stack, torch.stack([p.detach() for p in singles]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["adamw", "lion", "shampoo"])
@pytest.mark.parametrize("size", [1.0, 0.01])
def test_mars(kind: str, size: float) -> None:
    """With gradients of norms above 1, and so small ones that the norm never acts."""
    states: dict[str, dict[str, Any]] = {}

    def twin(n: str) -> Twin:
        def matrix(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            states[n] = s
            own = {"adamw": {"b2": 0.95, "eps": 1e-3}, "lion": {}, "shampoo": {"steps": 4}}[kind]
            return twins.mars(w, g, s, 0.03 * fraction, 0.2, kind, 0.05, 0.9, **own)

        def vector(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.adamw(w, g, s, 0.03 * 0.5 * fraction, 0.2, 0.8, 0.9, 1e-3)

        return matrix if len(SHAPES[n]) == 2 else vector

    own = {"adamw": {"beta2": 0.95, "eps": 1e-3}, "lion": {}, "shampoo": {"ns_steps": 4}}[kind]
    vector = {"vector_lr_ratio": 0.5, "vector_beta1": 0.8, "vector_beta2": 0.9, "vector_eps": 1e-3}
    hyper = {"gamma": 0.05, "beta1": 0.9, "weight_decay": 0.2, **own, **vector}
    roles = {"square2": "head", "wide": "embedding"}
    measured = difference(f"mars-{kind}", roles, twin, 0.03, size=size, **hyper)
    assert max(measured.values()) < 1e-11, measured
    assert {s["clipped"] > 0 for s in states.values()} == {size == 1.0}


@pytest.mark.parametrize("scale", ["ratio", "shape", "out"])
@pytest.mark.parametrize("outer", [("sign-per-input", "row", "rms"), ("sign", "rms", "sign")])
def test_scion(scale: str, outer: tuple[str, str, str]) -> None:
    roles = {"tall2": "embedding", "wide": "head"}

    def twin(n: str) -> Twin:
        role = roles.get(n, "matrix" if len(SHAPES[n]) == 2 else "vector")
        norms = dict(zip(("head", "embedding", "vector"), outer, strict=True))
        radius = {"matrix": 2.0, "head": 3.0, "embedding": 0.5, "vector": 0.25}[role]
        mu, norm = (0.9, scale) if role == "matrix" else (0.8, norms[role])

        def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            return twins.scion(w, g, s, 0.03 * fraction, 0.4, mu, radius, norm, 4)

        return step

    radii = {"hidden_radius": 2.0, "head_radius": 3.0, "embedding_radius": 0.5, "vector_radius": 0.25}
    norms = {"head_norm": outer[0], "embedding_norm": outer[1], "vector_norm": outer[2]}
    hyper = {"scale": scale, "momentum": 0.9, "outer_momentum": 0.8, "ns_steps": 4, "weight_decay": 0.4}
    measured = difference("scion", roles, twin, 0.03, **radii, **norms, **hyper)
    assert max(measured.values()) < 1e-11, measured


def test_scion_may_start_on_the_surface_of_its_balls() -> None:
    from fairstep.optim.rules.scion import initialise

    shapes = {"w": (12, 8), "embedding": (12, 8), "head": (10, 8), "norm": (8,), "experts": (3, 4, 6)}
    roles = {"embedding": "embedding", "head": "head", "experts": "expert"}
    drawn = []
    for seed in (0, 0, 1):
        p = {n: torch.nn.Parameter(torch.full(shape, 7.0)) for n, shape in shapes.items()}
        radii = {"hidden_radius": 2.0, "head_radius": 3.0, "embedding_radius": 0.5}
        initialise(build("scion", p.items(), roles=roles, embedding_norm="row", **radii), seed)
        drawn.append(p)
    for matrices, c in ((p["w"][None], (12 / 8) ** 0.5), (p["experts"], (4 / 6) ** 0.5)):
        values = torch.linalg.svdvals(matrices)
        assert torch.allclose(values, torch.full_like(values, 2 * c), rtol=1e-5)
    assert torch.allclose(p["embedding"].square().mean(-1).sqrt(), torch.full((12,), 0.5), rtol=1e-5)
    assert torch.allclose(p["head"].abs(), torch.full((10, 8), 3 / 8)) and (p["norm"] == 7).all()
    assert all(torch.equal(p, drawn[1][n]) for n, p in drawn[0].items())
    assert not torch.equal(drawn[0]["w"], drawn[2]["w"]) and not torch.equal(p["experts"][0], p["experts"][1])


def test_scion_starts_each_part_and_each_position_on_its_ball() -> None:
    """As they are stepped: fused matrices part by part, a table of positions for all sequences row by row."""
    from fairstep.optim.rules.scion import initialise

    fused, positions = torch.nn.Parameter(torch.zeros(16, 8)), torch.nn.Parameter(torch.zeros(1, 5, 8))
    overrides = {"qkv.weight": {"splits": "2:1:1"}}
    named = [("qkv.weight", fused), ("pos_embed", positions)]
    initialise(build("scion", named, overrides=overrides, embedding_norm="sign-per-input", embedding_radius=3.0), 0)
    for part in fused.split((8, 4, 4)):
        values = torch.linalg.svdvals(part)
        assert torch.allclose(values, torch.full_like(values, (len(part) / 8) ** 0.5), rtol=1e-5)
    assert torch.allclose(positions.abs(), torch.full((1, 5, 8), 3 / 8))


def test_constrained_scion_stays_in_its_balls() -> None:
    """With decay 1, whatever the gradients, weights end within their radii (times what Newton-Schulz misses)."""
    w, head, norm = (torch.nn.Parameter(5 * torch.ones(shape)) for shape in ((8, 8), (12, 8), (8,)))
    named = [("w", w), ("head", head), ("norm", norm)]
    radii = {"hidden_radius": 2.0, "head_radius": 3.0, "vector_radius": 0.5}
    optimizer = build("scion", named, lr=0.1, weight_decay=1.0, undecayed=(), roles={"head": "head"}, **radii)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        for _, p in named:
            p.grad = torch.randn(p.shape, generator=generator) - 3
        optimizer.step()
    assert torch.linalg.matrix_norm(w, ord=2) < 1.25 * 2
    assert head.abs().max() <= 3 / 8 + 2e-3
    assert norm.square().mean().sqrt() < 0.5 + 2e-3


def _kron_twin(n: str, diagonal: dict[str, tuple[bool, ...]], damping: float = 1e-3) -> Twin:
    def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
        return twins.kron(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.3, diagonal[n], 5, 0.1, damping)

    return step


_KRON = {"weight_decay": 0.2, "beta1": 0.8, "precond_lr": 0.3, "flat_start": 5, "update_probability": 0.1}


@pytest.mark.parametrize(
    ("settings", "square", "wide", "tall"),
    [
        ({}, (False, False), (False, False), (False, False)),
        ({"memory_save_mode": "one_diag"}, (False, True), (False, True), (True, False)),
        ({"memory_save_mode": "smart_one_diag"}, (False, False), (False, True), (True, False)),
        ({"memory_save_mode": "all_diag"}, (True, True), (True, True), (True, True)),
        ({"max_size_triangular": 6}, (True, True), (False, True), (True, False)),
    ],
)
def test_kron(settings: dict[str, Any], square: Any, wide: Any, tall: Any) -> None:
    """Most of the steps come after the flat start, where every second one updates the factors."""
    sides = {"square": square, "square2": square, "wide": wide, "tall": tall, "tall2": tall}
    diagonal = {n: sides.get(n, (True,)) for n in SHAPES}
    measured = difference("kron", {}, lambda n: _kron_twin(n, diagonal), 0.03, damping=1e-3, **_KRON, **settings)
    assert max(measured.values()) < 1e-10, measured


def test_kron_of_a_vocabulary_is_diagonal_on_its_longer_side() -> None:
    diagonal = {n: (False, False) if len(shape) == 2 else (True,) for n, shape in SHAPES.items()}
    diagonal |= {"wide": (False, True), "tall": (True, False)}
    roles = {"wide": "head", "tall": "embedding", "square": "head"}
    measured = difference("kron", roles, lambda n: _kron_twin(n, diagonal, 0.0), 0.03, damping=0.0, **_KRON)
    assert max(measured.values()) < 1e-10, measured


def test_kron_counts_its_updates() -> None:
    from fairstep.optim.maths.update_steps import updates_until

    due = [step for step in range(1, 6001) if updates_until(step, 500, 0.03) > updates_until(step - 1, 500, 0.03)]
    assert due[:501] == list(range(1, 502)), "p(t) = 1 up to t = 500, which is step 501"
    gaps = [b - a for a, b in itertools.pairwise(due)]
    assert gaps == sorted(gaps) and gaps[501] == 2
    assert set(gaps[-10:]) == {34}, "1 / 0.03 is more than 33 steps"
    constant = [step for step in range(1, 5000) if updates_until(step, 0, 0.3) > updates_until(step - 1, 0, 0.3)]
    assert [b - a for a, b in itertools.pairwise(constant[-5:])] == [4] * 4
    assert updates_until(6000, 500, 0.03) == len(due) and updates_until(1000, 500, 0.03) == sum(
        step <= 1000 for step in due
    )


def test_balancing_kron_keeps_the_product() -> None:
    from fairstep.optim.rules.kron import balance

    generator = torch.Generator().manual_seed(0)
    left = torch.rand(3, 4, 4, generator=generator, dtype=torch.float64).triu() * 7
    right = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    before = torch.einsum("sab,sc->sabc", left, right)
    balance({"L": left, "R": right}, None)
    assert torch.allclose(torch.einsum("sab,sc->sabc", left, right), before, rtol=1e-14)
    assert torch.allclose(left.flatten(1).amax(1), right.amax(1), rtol=1e-14)


def test_kron_with_normalized_gradients() -> None:
    def twin(n: str) -> Twin:
        def step(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            sides = (False, False) if w.ndim == 2 else (True,)
            return twins.kron(w, g, s, 0.03 * fraction, 0.2, 0.8, 0.3, sides, 5, 0.1, 1e-3, normalize=True)

        return step

    measured = difference("kron", {}, twin, 0.03, damping=1e-3, normalize_gradients=True, **_KRON)
    assert max(measured.values()) < 1e-10, measured


def test_scions_other_layers_have_a_learning_rate_that_their_decay_follows() -> None:
    """As W's chain: add_decayed_weights, then scale(-r lr). A hyperparameter that came later names no earlier run."""
    w = nn.Parameter(torch.full((2, 2), 0.5, dtype=torch.float64))
    settings = {"head_norm": "sign", "head_radius": 1.0, "outer_lr_ratio": 0.2}
    roles = {"w": "head"}
    optimizer = build("scion", [("w", w)], roles=roles, lr=0.1, weight_decay=0.3, **settings)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert w.detach().flatten().tolist() == pytest.approx([0.5 - 0.1 * 0.2 * (1 + 0.3 * 0.5)] * 4)
    spec = get("scion")
    assert "outer_lr_ratio" not in spec.validate({}) | spec.validate({"outer_lr_ratio": 1.0})
    assert spec.validate({"outer_lr_ratio": 0.2})["outer_lr_ratio"] == 0.2
    assert spec.typed({"outer_lr_ratio": 1}) == {"outer_lr_ratio": 1.0}
