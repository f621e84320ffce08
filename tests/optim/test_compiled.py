"""A rule's step as one compiled kernel: the same numbers as eager, one compilation for all steps and settings."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import Tensor, nn
from torch._dynamo.utils import counters

from fairstep.optim import Lion, NAdamW, compiled, get, names, stacks
from fairstep.optim.rule import Rule
from fairstep.optim.rules.lion import LionRule
from fairstep.optim.work import Piece
from fairstep.optim.wrappers import wrappers

STEPS = 20
ALL = [*names(), *(f"{base}+{wrapper}" for base in ("adamw", "lion") for wrapper in wrappers())]
NAMES = [
    name
    for name in ALL
    if any(p.rule.elementwise and "matrix" in p.roles and type(p.rule).fused is Rule.fused for p in get(name).parts)
]
"""Those whose matrices are stepped elementwise, and not by a kernel of torch's own."""
SHAPES = {"a": (40, 64), "b": (64, 30), "large": (80, 75), "vector": (64,)}
"""With stacks of at most 2^13 elements: one of several parameters that is compiled, and one parameter alone."""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
compiles = pytest.mark.skipif(not compiled.can_compile("cpu"), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stacks, "COMPILED_ELEMENTS", 2**13)
    kernel = compiled.kernel
    kernel.cache_clear()
    compiled._say_once.cache_clear()
    yield
    kernel.cache_clear()


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[compiled.Program]:
    """Recordings are carried out as they are instead of being compiled; the list has them."""
    found: list[compiled.Program] = []

    def kernel(program: compiled.Program, kind: tuple[Any, ...]) -> Callable[..., Any]:
        found.append(program)
        return lambda *tensors: compiled.replay(program, tensors[:-1], tensors[-1])

    monkeypatch.setattr(compiled, "kernel", kernel)
    monkeypatch.setattr(compiled, "can_compile", lambda _: True)
    return found


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
        for name, shape in SHAPES.items()
    }


def train(optimizer: Any, first: int = 1, last: int = STEPS) -> None:
    """Steps at changing learning rates, with gradients that depend on the weights."""
    for step in range(first, last + 1):
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] / (1 + step % 7)
        for _, p in optimizer.named_parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) + p.detach()
        optimizer.step()


def trained(name: str, dtype: torch.dtype = torch.float64, **settings: Any) -> dict[str, nn.Parameter]:
    params = parameters(dtype)
    train(build(name, params.items(), **settings))
    return params


def assert_near(ours: dict[str, nn.Parameter], eager: dict[str, nn.Parameter], tolerance: float = 1e-12) -> None:
    """As a share of the longest way that an element of its tensor went, or else one rounding of a weight per step."""
    start = parameters()
    for name, p in eager.items():
        bound = torch.maximum(tolerance * (p - start[name]).abs().max(), STEPS * 2**-53 * p.abs().max())
        assert (ours[name] - p).abs().max() <= bound, name


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_has_all_operations(name: str, replayed: list[compiled.Program]) -> None:
    assert_near(trained(name, compiled=True), trained(name))
    assert replayed


@pytest.mark.parametrize("decay", ["independent", "coupled", "cautious"])
def test_every_form_of_decay_is_recorded(decay: str, replayed: list[compiled.Program]) -> None:
    for name in ("adamw", "nadamw", "prodigy"):
        assert_near(trained(name, decay=decay, compiled=True), trained(name, decay=decay))
    assert replayed


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_eager_and_is_compiled_once(name: str) -> None:
    eager = trained(name)
    before = counters["stats"]["unique_graphs"]
    assert_near(trained(name, compiled=True), eager)
    kernels = compiled.kernel.cache_info().currsize
    assert 1 <= kernels <= 2, "two for rules with measures or signals"
    assert counters["stats"]["unique_graphs"] - before == kernels, "one compilation for all sizes and steps"


@compiles
@pytest.mark.slow
def test_one_kernel_for_all_that_is_done_with_an_optimizer() -> None:
    """Other settings, schedulers, checkpoints, copies: what was compiled stays, and eager steps go the same way."""
    ends = []
    for use in (False, True):
        params = parameters()
        optimizer = NAdamW(params.items(), lr=0.01, compiled=use)
        train(optimizer, 1, 3)
        before = counters["stats"]["unique_graphs"]
        other = NAdamW(params.items(), lr=0.01, beta2=0.7, weight_decay=0.3, compiled=use)
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        other.param_groups[0]["beta1"] = 0.5
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(other, 10)
        for step in range(4, 7):
            train(other, step, step)
            scheduler.step()
        params, copied = pickle.loads(pickle.dumps(copy.deepcopy((params, other))))
        assert copied.compiled == use
        train(copied, 7, 9)
        copied.zero_grad()
        params["a"].grad = torch.ones_like(params["a"])  # its stack shrinks to itself
        copied.step()
        assert counters["stats"]["unique_graphs"] == before
        ends.append(params)
    assert compiled.kernel.cache_info().currsize == 1
    assert_near(ends[1], ends[0])


def test_pieces_are_stepped_as_wholes_are(replayed: list[compiled.Program]) -> None:
    """With ``Engine.share``: two optimizers with half of every parameter each."""
    eager, shared = trained("nadamw"), parameters()
    owners = []
    for half in (0, 1):
        optimizer = NAdamW(shared.items(), compiled=True)
        pieces = {}
        for name, p in shared.items():
            middle = p.numel() // 2 + 5
            pieces[name] = Piece(middle * half, p.numel() if half else middle, p.numel())
        optimizer.share(pieces, lambda x: x)
        owners.append(optimizer)
    for step in range(1, STEPS + 1):
        weights = {name: p.detach().clone() for name, p in shared.items()}
        for optimizer in owners:
            generator = torch.Generator().manual_seed(step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] / (1 + step % 7)
            for name, p in optimizer.named_parameters():
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype) + weights[name]
            optimizer.step()
    assert_near(shared, eager)
    assert replayed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_weights_are_converted_inside(dtype: torch.dtype, replayed: list[compiled.Program]) -> None:
    eager, ours = trained("nadamw", dtype), trained("nadamw", dtype, compiled=True)
    rounding = torch.finfo(dtype).eps
    for name, p in eager.items():
        assert (ours[name] - p).abs().max() <= 4 * rounding * p.abs().max()
    inputs = {program.inputs for program in replayed}
    assert inputs == {4}, "gradient, weights, m and v; no copies of them"
    kinds = {str(operation.function) for program in replayed for operation in program.operations}
    assert ("aten._to_copy.default" in kinds) == (dtype == torch.bfloat16)


def test_weights_that_are_not_contiguous(replayed: list[compiled.Program]) -> None:
    ends = []
    for use in (False, True):
        base = torch.randn(80, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        w = nn.Parameter(base.t())
        train(Lion([("w", w)], compiled=use), 1, 4)
        ends.append(w.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-13, atol=0)
    assert replayed


def test_autograd_learns_of_the_change(replayed: list[compiled.Program]) -> None:
    w = nn.Parameter(torch.ones(100, 100))
    optimizer = Lion([("w", w)], compiled=True)
    for _ in range(2):
        loss = (w * w).sum()
        loss.backward(retain_graph=True)
        optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_compiler_it_says_so_once_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "can_compile", lambda _: False)
    with pytest.warns(RuntimeWarning, match="torch cannot compile here") as told:
        ours = trained("lion", compiled=True)
    assert len(told) == 1
    assert all(torch.equal(ours[name], p) for name, p in trained("lion").items())


@pytest.mark.parametrize("reads", ["a value", "another tensor"])
def test_a_rule_that_cannot_be_recorded_steps_as_it_is(reads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    update, elsewhere = LionRule.update, torch.full((), 2.0, dtype=torch.float64)

    def odd(self: LionRule, grad: Tensor, *others: Any) -> Tensor | None:
        direction: Any = update(self, grad, *others)
        return direction * (elsewhere if reads == "another tensor" else 1 + 0 * grad[0].item())

    monkeypatch.setattr(LionRule, "update", odd)
    with pytest.warns(RuntimeWarning, match="compiled=True, but the rule lion cannot be: .*; it steps uncompiled"):
        ours = trained("lion", compiled=True)
    assert all(torch.equal(ours[name], p) for name, p in trained("lion").items())


def test_small_parameters_and_first_steps_stay_eager(replayed: list[compiled.Program]) -> None:
    params = {"small": nn.Parameter(torch.ones(8, 8))}
    train(Lion(params.items(), compiled=True), 1, 3)
    train(Lion(parameters().items(), compiled=True), 1, 1)
    assert not replayed
