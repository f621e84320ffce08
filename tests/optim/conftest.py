"""What the tests of this room share: a model with every role, and gradients that depend on step and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor, nn

Feed = Callable[[Iterable[Tensor], int], None]


class TinyModel(nn.Module):
    """Every role, several members per shape, square, tall and wide matrices, a 1-D and a 0-D parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(24, 8)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(8, 8, bias=False), "up": nn.Linear(8, 12), "down": nn.Linear(12, 8)})
            for _ in range(2)
        )
        self.moe = nn.ModuleDict({"router": nn.Linear(8, 3, bias=False)})
        self.moe.register_parameter("experts", nn.Parameter(torch.randn(3, 8, 8) / 3))
        self.gain = nn.Parameter(torch.ones(()))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 24, bias=False)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small only lose time to threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., TinyModel]:
    """make_model(dtype=torch.float64): the same weights at every call."""

    def make(dtype: torch.dtype = torch.float64) -> TinyModel:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed also writes down, for later devices, who asked
            return TinyModel().to(dtype)

    return make


@cache
def _noise(seed: int, shape: torch.Size, scale: float) -> Tensor:
    """In float64; kept, because every test asks for the same."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="session")
def feed() -> Feed:
    """feed(parameters, step): fresh gradients of mixed scales with feedback, A_t + W, the same for the same weights."""

    def give(parameters: Iterable[Tensor], step: int) -> None:
        for index, p in enumerate(parameters):
            noise = _noise(1000 * step + index, p.shape, 3.0 ** (index % 4 - 2))
            p.grad = (noise + p.detach()).to(p.dtype)

    return give
