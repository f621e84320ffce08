"""Matrices in blocks, rotated vectors: the options of SOAP and Kron, against the twins."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim import twins
from torch import Tensor, nn

from fairstep.optim import build, get

KRON = {"beta1": 0.8, "precond_lr": 0.3, "flat_start": 5, "update_probability": 0.1, "damping": 1e-3}


def run(name: str, weights: list[Tensor], gradients: Callable[[int, int], Tensor], steps: int, **settings: Any) -> Any:
    """The optimizer after some steps on copies of the weights; gradients are a function of (parameter, step)."""
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = build(name, parameters, roles="matrix", **settings)
    for step in range(1, steps + 1):
        for n, p in enumerate(parameters):
            p.grad = gradients(n, step)
        optimizer.step()
    return optimizer, [p.detach() for p in parameters]


def draw(*words: int, shape: tuple[int, ...]) -> Tensor:
    seed = sum(word * 1000**n for n, word in enumerate(words))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cut(x: Tensor, size: int) -> list[Tensor]:
    return [block for rows in x.split(size) for block in rows.split(size, dim=1)]


def glue(blocks: list[Tensor], across: int) -> Tensor:
    return torch.cat([torch.cat(blocks[n : n + across], dim=1) for n in range(0, len(blocks), across)])


@pytest.mark.parametrize("shape", [(18, 12), (16, 10)])  # the second with blocks of 6 x 4, 4 x 6 and 4 x 4 at the end
def test_soap_in_blocks_is_soap_on_blocks(shape: tuple[int, int]) -> None:
    settings = {"lr": 0.03, "weight_decay": 0.2, "precondition_frequency": 3}
    w = draw(0, shape=shape)
    _, (whole,) = run("soap", [w], lambda _, step: draw(step, shape=shape), 22, block_size=6, **settings)
    _, parts = run("soap", cut(w, 6), lambda n, step: cut(draw(step, shape=shape), 6)[n], 22, **settings)
    assert torch.allclose(whole, glue(parts, 2), rtol=0, atol=1e-11)


@pytest.mark.parametrize("normalize", [False, True])
def test_kron_in_blocks(normalize: bool) -> None:
    """Blocks of 8 x 8, 8 x 2, 4 x 8 and 4 x 2; clip and norm are of the whole matrix."""
    shape, lr = (12, 18), 0.03
    settings = {**KRON, "lr": lr, "weight_decay": 0.0, "normalize_gradients": normalize}
    w = draw(0, shape=shape)
    _, (ours,) = run("kron", [w], lambda _, step: 9.0 * draw(step, shape=shape), 22, block_size=8, **settings)
    states: list[dict[str, Any]] = [{} for _ in range(6)]
    clipped = 0
    for step in range(1, 23):
        g = 9.0 * draw(step, shape=shape)
        g = g / g.norm() if normalize else g
        blocks = [
            -twins.kron(torch.zeros_like(b), b, s, 1.0, 0.0, 0.8, 0.3, (False, False), 5, 0.1, 1e-3, clip=math.inf)
            for b, s in zip(cut(g, 8), states, strict=True)
        ]
        u = glue(blocks, 3)
        rms = u.square().mean().sqrt()
        clipped += int(rms > 1.1)
        w = w - lr * u * min(1.0, (1.1 / rms).item())
    assert clipped > 0 or normalize
    assert (ours - w).abs().max() < 1e-10 * (w - draw(0, shape=shape)).abs().max()


def test_a_vocabulary_is_cut_on_its_shorter_side_only() -> None:
    for name, key, shape in (("soap", "Q_R.0", (2, 4, 4)), ("kron", "Q_R.0", (2, 4, 4))):
        p = nn.Parameter(torch.zeros(20, 8))
        optimizer = build(name, [("head", p)], roles={"head": "head"}, block_size=4)
        p.grad = torch.randn(20, 8)
        optimizer.step()
        state = {k: v for k, v in optimizer.state[p].items() if isinstance(v, Tensor)}
        assert state[key].shape == shape and state["m.0"].shape == (2, 20, 4)
        assert sum(v.numel() for v in state.values()) == get(name).state_floats(20, 8, role="head", block_size=4)


@pytest.mark.parametrize("name", ["soap", "kron", "soap+ema"])
def test_a_run_described_with_refresh_together_is_as_before_and_spread_is_refused(name: str) -> None:
    """Runs were recorded with refresh="together", which is in the hash that names them."""
    spec = get(name)
    assert spec.validate({})["refresh"] == "together"
    assert spec.validate({"refresh": "together"}) == spec.validate({})
    with pytest.raises(
        ValueError, match=f"{re.escape(name)}: refresh='spread' is no longer supported; leave refresh out"
    ):
        spec.validate({"refresh": "spread"})
    optimizer, _ = run(name, [draw(0, shape=(4, 4))], lambda _, step: draw(step, shape=(4, 4)), 2, refresh="together")
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        group["refresh"] = "together"
    optimizer.load_state_dict(saved)
    assert all("refresh" not in group for group in optimizer.param_groups)
    saved["param_groups"][0]["refresh"] = "spread"
    with pytest.raises(ValueError, match="refresh='spread' is no longer supported"):
        optimizer.load_state_dict(saved)


def test_soap_rotates_vectors_if_asked() -> None:
    """As a matrix of one column: its rows are rotated, and the one column has a rotation of 1 or -1."""
    w, gradients = draw(0, shape=(5,)), lambda _, step: draw(step, shape=(5,))
    settings = {"lr": 0.03, "weight_decay": 0.0, "precondition_frequency": 3}
    optimizer, (ours,) = run("soap", [w], gradients, 2, precondition_1d=True, **settings)
    assert optimizer.param_groups[0]["rule"] == "soap"
    _, (theirs,) = run("soap", [w[:, None]], lambda n, s: gradients(n, s)[:, None], 2, **settings)
    assert torch.allclose(ours, theirs[:, 0], rtol=0, atol=1e-12)
    assert sum(v.numel() for v in optimizer.state_dict()["state"]["0"].values() if isinstance(v, Tensor)) == (
        get("soap").state_floats(5, 1, role="vector", precondition_1d=True)
    )


@pytest.mark.parametrize("settings", [{"block_size": 5}, {"block_size": 4}])
@pytest.mark.parametrize("name", ["soap", "kron"])
def test_options_keep_what_every_optimizer_must(
    name: str, settings: dict[str, Any], make_model: Callable[..., nn.Module], feed: Any
) -> None:
    """Stacked equals unstacked, the measured state is the spec's, and a resumed run goes on to the bit."""
    rest = {"flat_start": 2} if name == "kron" else {"precondition_frequency": 3, "max_precond_dim": 8}
    models = [make_model() for _ in range(3)]
    stacked, alone = (
        build(name, models[0], **settings, **rest),
        build(name, models[1], stacked=False, **settings, **rest),
    )
    for step in range(1, 14):
        for model in models[:2]:
            feed(model.parameters(), step)
        stacked.step()
        alone.step()
    models[2].load_state_dict(models[0].state_dict())
    resumed = build(name, models[2])
    resumed.load_state_dict(copy.deepcopy(stacked.state_dict()))
    for n, p in models[0].named_parameters():
        role = stacked.roles[n]
        o, i = (p.numel(), 1) if p.ndim < 2 else p.shape[-2:]
        floats = (len(p) if role == "expert" else 1) * get(name).state_floats(o, i, role=role, **settings, **rest)
        assert sum(v.numel() for v in stacked.state[p].values() if isinstance(v, Tensor)) == floats, n
    for step in range(14, 22):
        for model in models:
            feed(model.parameters(), step)
        for optimizer in (stacked, alone, resumed):
            optimizer.step()
    for (n, p), q, r in zip(models[0].named_parameters(), *(m.parameters() for m in models[1:]), strict=True):
        assert torch.equal(p, r), n
        assert (p - q).abs().max() <= 1e-11 * max(1.0, p.abs().max().item()), n
