"""Weights that are stored otherwise than as output x input, or as experts apart, step as their usual twins do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import nn

from fairstep.optim import Scion
from fairstep.optim.engine import by_number
from fairstep.optim.rules.scion import initialise

RULES = ["adamw", "soap", "kron", "muon", "d-muon", "normuon", "scion", "adam-mini", "muonh", "mars-shampoo"]


class Conv1D(nn.Module):
    """As Transformers': GPT-2's layers."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.empty(nx, nf, dtype=torch.float64))


class Experts(nn.Module):
    """As gpt-oss has them: (experts, in, out) and biases with two dimensions."""

    is_transposed = True

    def __init__(self, stack: torch.Tensor) -> None:
        super().__init__()
        self.up = nn.Parameter(stack.clone())
        self.up_bias = nn.Parameter(torch.zeros(*stack.shape[::2], dtype=torch.float64))


class DbrxExpertGLU(nn.Module):
    """As Transformers has DBRX's experts: one under another, and of w2 each as input x output."""

    moe_num_experts = 3

    def __init__(self, w1: torch.Tensor, w2: torch.Tensor) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(w1.clone()), nn.Parameter(w2.clone())


def models() -> tuple[nn.Module, nn.Module]:
    """One model twice: as Linear stores weights, and as Conv1D does. Two shapes are alike, which shares a stack."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) / 4

    shapes = {"up": (12, 6), "wide": (12, 6), "down": (6, 12), "square": (6, 6)}
    ours, theirs = nn.ModuleDict(), nn.ModuleDict()
    for name, (o, i) in shapes.items():
        weight = draw(o, i)
        ours[name] = nn.Linear(i, o, bias=False, dtype=torch.float64)
        ours[name].weight = nn.Parameter(weight.clone())
        theirs[name] = Conv1D(o, i) if name != "wide" else copy.deepcopy(ours[name])
        theirs[name].weight = nn.Parameter(weight.clone() if name == "wide" else weight.T.contiguous())
    stack = draw(3, 8, 6)
    ours["experts"], theirs["experts"] = Experts(stack), Experts(stack.mT.contiguous())
    ours["experts"].is_transposed = False  # type: ignore[assignment]
    kernel, first, second = draw(4, 6, 5), draw(3, 8, 6), draw(3, 6, 8)
    ours["conv"], theirs["conv"] = nn.Conv1d(6, 4, 5, bias=False), nn.ConvTranspose1d(6, 4, 5, bias=False)
    for model in (ours, theirs):
        model["conv"].weight = nn.Parameter(stored_otherwise("conv.weight", kernel) if model is theirs else kernel)
    glu = DbrxExpertGLU(first, second)
    ours["dbrx"] = nn.ModuleDict({"experts": glu})
    names = ("dbrx.experts.w1", first), ("dbrx.experts.w2", second)
    theirs["dbrx"] = nn.ModuleDict({"experts": DbrxExpertGLU(*(stored_otherwise(*pair) for pair in names))})
    ours["experts"].up_bias = nn.Parameter(theirs["experts"].up_bias.detach().clone())
    return ours, theirs


def stored_otherwise(name: str, x: torch.Tensor) -> torch.Tensor:
    """Of our model's form, the other's."""
    if name.startswith("wide") or name.endswith("bias"):
        return x
    if name == "dbrx.experts.w1":
        return x.flatten(0, 1)
    if name == "dbrx.experts.w2":
        return x.mT.flatten(0, 1)
    return x.transpose(0, 1).contiguous() if name == "conv.weight" else x.mT


def steps(ours: nn.Module, theirs: nn.Module, a: Any, b: Any, count: int = 4) -> None:
    for step in range(count):
        generator = torch.Generator().manual_seed(step)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
            q.grad = stored_otherwise(name, p.grad).contiguous()
        a.step()
        b.step()


def assert_equal(ours: nn.Module, theirs: nn.Module, tolerance: float = 1e-9) -> None:
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        expected = stored_otherwise(name, p.detach())
        torch.testing.assert_close(q.detach(), expected, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("name", [*RULES, "muon+ema", "muon+schedule-free", "mars-shampoo exact"])
def test_a_weight_steps_the_same_however_it_is_stored(name: str) -> None:
    name, *form = name.split()
    settings = {"form": form[0]} if form else {}
    ours, theirs = models()
    a, b = build(name, ours, **settings), build(name, theirs, **settings)
    assert a.roles == b.roles
    assert (b.roles["experts.up"], b.roles["experts.up_bias"]) == ("expert", "vector")
    assert (b.roles["dbrx.experts.w1"], b.roles["conv.weight"]) == ("expert", "matrix")
    steps(ours, theirs, a, b, 1 if form else 4)  # the exact form's signal is drawn by shape
    assert_equal(ours, theirs)
    with_state = copy.deepcopy(b)
    assert with_state.orientations == b.orientations
    a.eval()
    b.eval()
    assert_equal(ours, theirs)
    a.train()
    b.train()
    if not form:
        again = models()[1]
        again.load_state_dict(theirs.state_dict())
        resumed = build(name, again, **settings)
        resumed.load_state_dict(b.state_dict())
        steps(ours, again, a, resumed)
        assert_equal(ours, again)


@pytest.mark.parametrize("asker", ["", "torch"])
def test_state_the_other_way_round_is_refused_where_no_shape_shows_it(asker: str) -> None:
    """As earlier versions saved it, which stepped a square weight as it was stored."""
    model = Conv1D(6, 6)
    nn.init.orthogonal_(model.weight)
    optimizer = build("muon", nn.ModuleDict({"square": model, "norm": nn.LayerNorm(6, dtype=torch.float64)}))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    if asker:
        saved = by_number.numbered(saved)
        optimizer.load_state_dict(saved)
    for group in saved["param_groups"]:
        group.pop("in_by_out", None)
    with pytest.raises(ValueError, match=r"the state of square\.weight the other way round"):
        optimizer.load_state_dict(saved)


def test_previous_weights_are_put_back_as_they_were_stored() -> None:
    ours, theirs = models()
    a, b = (build("mars-shampoo", model, form="exact") for model in (ours, theirs))
    steps(ours, theirs, a, b, 1)
    first = models()[1]
    with b.previous_weights():
        assert all(torch.equal(p, q) for p, q in zip(theirs.parameters(), first.parameters(), strict=True))
    assert_equal(ours, theirs)


def test_optimizers_that_were_pickled_with_names_alone_keep_their_orientations() -> None:
    """As earlier versions did it, which knew no other way to store a weight."""
    optimizer = build("muon", nn.ModuleDict({"up": Conv1D(4, 6), "experts": Experts(torch.zeros(2, 3, 4))}))
    state = optimizer.__getstate__()
    orientations = state.pop("orientations")
    again = object.__new__(type(optimizer))
    again.__setstate__({**state, "in_by_out": set(orientations)})
    assert again.orientations == orientations and len(orientations) == 2


def test_bf16() -> None:
    ours, theirs = (model.bfloat16() for model in models())
    steps(ours, theirs, build("muon", ours), build("muon", theirs))
    assert_equal(ours, theirs, 1e-2)


def test_scions_initial_weights() -> None:
    _, theirs = models()
    initialise(Scion(theirs, scale="out"), 0)
    conv = theirs["up"].weight.detach()  # type: ignore[index, union-attr]
    assert torch.linalg.matrix_norm(conv, 2).item() == pytest.approx(12**0.5)


def test_such_weights_are_not_divided_over_processes() -> None:
    optimizer = build("muon", models()[1])
    with pytest.raises(ValueError, match="is stored as input x output, and so cannot be divided"):
        optimizer.share({}, lambda part, largest=False: part)
