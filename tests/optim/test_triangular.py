"""Products that leave out a half, beside the plain ones."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fairstep import optim
from fairstep.optim import triangular

SIDES = (40, 512, 600, 1030)


@pytest.mark.parametrize("n", SIDES)
def test_products_are_the_plain_ones_with_fewer_operations(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    p, q = torch.randn(2, 2, n, n, generator=generator, dtype=torch.float64).triu()
    x = torch.randn(2, 24, n, generator=generator, dtype=torch.float64).mT
    s = q + q.mT
    for made, plain, operations in (
        (lambda: triangular.multiply(p, x), p @ x, 4 * n * n * 24),
        (lambda: triangular.multiply(p, x, transpose=True), p.mT @ x, 4 * n * n * 24),
        (lambda: triangular.gram(x), x @ x.mT, 4 * n * n * 24),
        (lambda: triangular.gram(x, plus=s, beta=2.0, alpha=-3.0), 2.0 * s - 3.0 * x @ x.mT, 4 * n * n * 24),
        (lambda: triangular.upper_product(p, q), p @ q, 4 * n**3),
    ):
        with FlopCounterMode(display=False) as counter:
            product = made()
        assert torch.allclose(product, plain, rtol=0, atol=1e-11)
        done = counter.get_total_flops() / operations
        assert done == 1 if n < triangular.LARGE else 0.46 < done < 0.76


@pytest.mark.parametrize("name", ["kron", "muon"])
def test_steps_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        start = 0.1 * torch.randn(600, 520, generator=generator, dtype=torch.float64)
        w = torch.nn.Parameter(start.clone())
        optimizer = optim.build(name, [("w", w)], lr=1e-2, roles={"w": "matrix"})
        for _ in range(3):
            w.grad = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            optimizer.step()
        return w.detach() - start

    by_halves = train()
    monkeypatch.setattr(triangular, "LARGE", 10_000)
    plain = train()
    assert not torch.equal(by_halves, plain), "the products were made in two ways"
    assert (by_halves - plain).abs().max() < 1e-12 * plain.abs().max()
