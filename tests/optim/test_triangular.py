"""Products that leave out a half, beside the plain ones."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fairstep import optim
from fairstep.optim import triangular

SIDES = (40, 512, 600, 1030)


@pytest.mark.parametrize("n", SIDES)
def test_products_are_the_plain_ones_with_the_operations_that_are_said(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    p, q = torch.randn(2, 2, n, n, generator=generator, dtype=torch.float64).triu()
    x = torch.randn(2, 24, n, generator=generator, dtype=torch.float64).mT
    one, two = triangular.shares(n)
    for made, plain, operations in (
        (lambda: triangular.multiply(p, x), p @ x, 4 * n * n * 24 * one),
        (lambda: triangular.multiply(p, x, transpose=True), p.mT @ x, 4 * n * n * 24 * one),
        (lambda: triangular.gram(x), x @ x.mT, 4 * n * n * 24 * one),
        (lambda: triangular.upper_product(p, q), p @ q, 4 * n**3 * two),
    ):
        with FlopCounterMode(display=False) as counter:
            product = made()
        assert torch.allclose(product, plain, rtol=0, atol=1e-11)
        assert counter.get_total_flops() == pytest.approx(operations)


def test_kron_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        start = 0.1 * torch.randn(600, 520, generator=generator, dtype=torch.float64)
        w = torch.nn.Parameter(start.clone())
        optimizer = optim.build("kron", [("w", w)], lr=1e-2)
        for _ in range(3):
            w.grad = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            optimizer.step()
        return w.detach() - start

    by_halves = train()
    monkeypatch.setattr(triangular, "LARGE", 10_000)
    plain = train()
    assert not torch.equal(by_halves, plain), "the products were made in two ways"
    assert (by_halves - plain).abs().max() < 1e-12 * plain.abs().max()
