"""Steps taken by torch's fused kernels, and in pieces: the same numbers as the rule itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fairstep.optim import AdamW, Engine, NAdamW
from fairstep.optim.engine import step as descent
from fairstep.optim.rules.adamw import AdamWRule


def trained(optimizer_class: type[Engine], dtype: torch.dtype = torch.float64, **settings: Any) -> Tensor:
    """Weights after six steps at changing learning rates."""
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(37, 11, generator=generator, dtype=torch.float64).to(dtype))
    optimizer = optimizer_class([("w", w)], lr=0.01, weight_decay=0.1, **settings)
    for step in range(6):
        w.grad = torch.randn(37, 11, generator=generator, dtype=torch.float64).to(dtype)
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        optimizer.step()
    return w.detach()


@pytest.mark.parametrize("decay", ["decoupled", "independent", "coupled", "cautious", "corrected"])
def test_the_fused_kernel_is_the_rule(decay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = trained(AdamW, decay=decay)
    monkeypatch.delitem(descent.FUSED, AdamWRule)
    torch.testing.assert_close(fused, trained(AdamW, decay=decay), rtol=1e-13, atol=0)


def test_the_fused_kernel_is_used_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    kernel = descent.FUSED[AdamWRule]
    monkeypatch.setitem(descent.FUSED, AdamWRule, lambda *arguments: calls.append(1) or kernel(*arguments))
    for decay, dtype, taken in (
        ("decoupled", torch.float32, 6),
        ("independent", torch.float32, 6),
        ("corrected", torch.float32, 6),
        ("cautious", torch.float32, 0),
        ("decoupled", torch.bfloat16, 0),  # whose state is float32
    ):
        calls.clear()
        trained(AdamW, dtype, decay=decay)
        assert len(calls) == taken, (decay, dtype)


def test_a_rule_with_its_own_update_has_not_another_ones_kernel() -> None:
    assert trained(NAdamW).ne(trained(AdamW)).any()  # whose rule inherits from AdamW's
    assert list(descent.FUSED) == [AdamWRule]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pieces_of_a_parameter_give_the_same_bits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(NAdamW, dtype)
    monkeypatch.setattr("fairstep.optim.engine.stacks.CPU_ELEMENTS", 32)
    assert torch.equal(trained(NAdamW, dtype), whole)
