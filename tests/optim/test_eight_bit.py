"""8-bit state against a literal twin, and through stacks, checkpoints, copies and pieces; its errors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.optim import twins
from tests.optim.test_rules import difference
from torch import Tensor, nn

from fairstep import optim
from fairstep.optim import state_bytes
from fairstep.optim.maths.quantisation import dequantise, dynamic_map, quantise

SMALL = {"state_block": 16, "state_min_elements": 50}
"""So that matrices of the tests have several blocks, the last one filled up, and one matrix is left alone."""


def rounded(x: Tensor, block: int, kind: str, signed: bool) -> Tensor:
    """What is left of numbers in 8 bits: each block by itself, each element by the nearest of all values."""
    values = [k / 127 for k in range(-127, 128)] if kind == "linear" else list(dynamic_map(signed))
    table = torch.tensor(values, dtype=x.dtype)
    flat, found = x.flatten(), []
    for part in flat.split(block):
        size = part.abs().max()
        nearest = (part[:, None] / size - table).abs().argmin(1) if size else torch.zeros_like(part).long()
        found.append(table[nearest] * size)
    return torch.cat(found).view_as(x)


@pytest.mark.parametrize("kind", ["dynamic", "linear"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_step_is_of_exact_moments_and_the_state_is_rounded(name: str, kind: str) -> None:
    def twin_of(n: str) -> Any:
        def twin(w: Tensor, g: Tensor, s: dict[str, Any], fraction: float) -> Tensor:
            if w.ndim == 2 and name == "muon":
                new = twins.muon(w, g, s, 0.03 * fraction, 0.2, 0.9, True, 4, "shape")
            else:
                rate = 0.03 * (0.2 if name == "muon" else 1.0)
                new = twins.adamw(w, g, s, rate * fraction, 0.2, 0.9, 0.95, 1e-8)
            if w.ndim == 2:
                for key, x in s.items():
                    if isinstance(x, Tensor):
                        s[key] = rounded(x, 16, "dynamic" if key == "v" else kind, key != "v")
            return new

        return twin

    hyper = {"momentum": 0.9, "ns_steps": 4} if name == "muon" else {}
    found = difference(f"{name}+8bit", {}, twin_of, 0.03, weight_decay=0.2, state_map=kind, **SMALL, **hyper)
    assert max(found.values()) < 1e-11, found


def test_the_maps_are_the_published_ones() -> None:
    """Extremes of arXiv 2110.02861's dynamic tree, and the errors that the reference measured for a Gaussian."""
    signed, positive = dynamic_map(True), dynamic_map(False)
    assert len(set(signed)) == len(set(positive)) == 256 and 1.0 in signed and -1.0 not in signed
    assert min(x for x in signed if x > 0) == pytest.approx(5.5e-7)
    assert min(x for x in positive if x > 0) == pytest.approx(3.25e-7)
    x = torch.randn(1, 2**18, generator=torch.Generator().manual_seed(0))
    errors = {}
    for kind, block in (("dynamic", 256), ("linear", 256), ("linear", 2048)):
        back = dequantise(*quantise(x, block, kind, True), x.shape[1], kind, True)
        errors[kind, block] = ((back - x).norm() / x.norm()).item()
    assert errors[("dynamic", 256)] == pytest.approx(0.011, abs=5e-4)
    assert errors[("linear", 256)] == pytest.approx(0.007, abs=5e-4)
    assert errors[("linear", 2048)] == pytest.approx(0.008, abs=5e-4)


def test_what_is_not_finite_shows_in_the_state() -> None:
    for kind in ("dynamic", "linear"):
        for bad in (torch.nan, torch.inf):
            x = torch.ones(1, 40)
            x[0, 3] = bad
            back = dequantise(*quantise(x, 16, kind, True), 40, kind, True)
            assert not back[0, 3].isfinite() and back[0, 16:].eq(1).all()


def trained(name: str, model: nn.Module, feed: Any, first: int, last: int, optimizer: Any = None, **more: Any) -> Any:
    optimizer = optimizer or optim.build(name, model, **SMALL, **more)
    for step in range(first, last + 1):
        feed(model.parameters(), step)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["adamw-8bit", "muon-8bit", "lion+8bit", "adamw+8bit+cautious+ema"])
def test_stacks_checkpoints_and_copies_change_no_bit(name: str, make_model: Any, feed: Any) -> None:
    model, apart, resumed = (make_model(torch.float32) for _ in range(3))
    optimizer = trained(name, model, feed, 1, 8)
    codes = {n for n, p in model.named_parameters() if any(x.dtype == torch.uint8 for x in tensors(optimizer, p))}
    assert "blocks.0.q.weight" in codes and "moe.experts" in codes and "embedding.weight" not in codes
    assert "moe.router.weight" not in codes, "smaller than state_min_elements"
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    trained(name, model, feed, 9, 16, optimizer)
    if "muon" not in name:  # batched products round otherwise
        trained(name, apart, feed, 1, 16, stacked=False)
        assert all(map(torch.equal, model.parameters(), apart.parameters()))
    resumed.load_state_dict(saved[0])
    other = optim.build(name, resumed, **SMALL)
    other.load_state_dict(saved[1])
    copies, copied = copy.deepcopy((resumed, other))
    trained(name, copies, feed, 9, 16, copied)
    trained(name, resumed, feed, 9, 16, other)
    for p, q, r in zip(model.parameters(), resumed.parameters(), copies.parameters(), strict=True):
        assert torch.equal(p, q) and torch.equal(p, r)


def tensors(optimizer: Any, p: Tensor) -> list[Tensor]:
    return [x for x in optimizer.state[p].values() if isinstance(x, Tensor)]


def test_large_matrices_are_stepped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from fairstep.optim.wrappers import eight_bit

    start = torch.randn(30, 11, generator=torch.Generator().manual_seed(0))
    results = []
    for piece in (2**18, 40):
        monkeypatch.setattr(eight_bit, "PIECE", piece)
        p = nn.Parameter(start.clone())
        optimizer = optim.build("adamw-8bit", [("w", p)], roles="matrix", **SMALL)
        for _ in range(4):
            p.grad = p.detach().sin()
            optimizer.step()
        results.append(p.detach())
    assert torch.equal(*results)


def test_bytes_are_what_the_spec_says(make_model: Any, feed: Any) -> None:
    for name in ("adamw-8bit", "muon-8bit"):
        optimizer = trained(name, make_model(torch.float32), feed, 1, 1)
        spec, total = optim.get(name), 0
        for n, p in optimizer.named_parameters():
            role = optimizer.roles[n]
            o, i = (p.numel(), 1) if p.ndim < 2 else p.shape[-2:]
            total += 4 * (len(p) if role == "expert" else 1) * spec.state_floats(o, i, role=role, **SMALL)
        assert state_bytes(optimizer) == total
    assert optim.get("adamw-8bit").state_floats(1024, 1024) * 4 / 2**20 == pytest.approx(2.03, abs=0.005)
    assert optim.get("muon-8bit").state_floats(1024, 1024) * 4 / 2**20 == pytest.approx(1.002, abs=0.0005)


@pytest.mark.parametrize("name", ["soap", "normuon", "adam-mini", "schedule-free-adamw", "muown"])
def test_rules_that_keep_more_than_moments_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no 8-bit state, .* adamw, lion, signum, muon and d-muon have it"):
        optim.get(f"{name}+8bit")


def test_pieces_of_ranks_are_whole_matrices(make_model: Any) -> None:
    optimizer = optim.build("adamw-8bit", make_model(), **SMALL)
    kinds = {cost.name: cost.kind for cost in optimizer.step_costs()}
    assert kinds["blocks.0.q.weight"] == "whole" and kinds["moe.experts"] == "experts"
    assert kinds["embedding.weight"] == "elements"


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_found_by_the_first_bits_of_a_number(signed: bool) -> None:
    """As a search finds them: at midpoints, right beside them, and anywhere between."""
    from fairstep.optim.maths.quantisation import _nearest, _tables

    _, middle = _tables(signed, torch.float32, torch.device("cpu"))
    up, down = (torch.nextafter(middle, torch.full_like(middle, end)) for end in (2.0, -2.0))
    anywhere = torch.randn(2**16, generator=torch.Generator().manual_seed(0)).exp().neg().exp()
    x = torch.cat([middle, up, down, anywhere, torch.tensor([0.0, 1.0]), -anywhere if signed else anywhere])
    assert torch.equal(_nearest(x, signed), torch.bucketize(x, middle).to(torch.uint8))
