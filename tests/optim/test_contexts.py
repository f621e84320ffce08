"""A step within what a loop has switched on around it, and parameters that no step could move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.supply import build
from torch import nn

from fairstep import optim
from fairstep.optim import AdamW, Muon


@pytest.mark.parametrize("name", optim.names())
def test_autocast_is_of_the_model_and_not_of_the_step(name: str, make_model: Any, feed: Any) -> None:
    """A loop that steps within its autocast has the losses of one that does not: products of rules stay in float32."""
    plain, within = make_model(torch.float32), make_model(torch.float32)
    steppers = build(name, plain), build(name, within)
    for step in (1, 2, 3):
        feed(plain.parameters(), step)
        steppers[0].step()
        feed(within.parameters(), step)
        with torch.autocast("cpu", torch.bfloat16):
            steppers[1].step()
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), within.parameters(), strict=True))


def test_a_closure_keeps_its_autocast() -> None:
    layer = nn.Linear(4, 4)
    optimizer, dtypes = Muon(layer.named_parameters("blocks.0"), lr=0.1), []

    def closure() -> Any:
        out = layer(torch.ones(2, 4))
        dtypes.append(out.dtype)
        out.sum().backward()
        return out.sum()

    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(closure)
        assert torch.is_autocast_enabled("cpu")
    assert dtypes == [torch.bfloat16]


def test_parameters_that_to_empty_replaced_are_said() -> None:
    with torch.device("meta"):
        model = nn.Linear(4, 4)
    optimizer = AdamW(model, lr=0.1)
    model.to_empty(device="cpu")
    model(torch.ones(2, 4)).sum().backward()
    with pytest.raises(
        ValueError, match=r"parameter weight is on the meta device .* build the optimizer after to_empty"
    ):
        optimizer.step()


def test_expanded_parameters_are_refused_by_name() -> None:
    """Their elements share memory, so no step can write them; a frozen one is never written."""
    shared = torch.zeros(1, 4).expand(3, 4)
    with pytest.raises(ValueError, match=r"parameter w has elements that share memory \(expand\); give a clone"):
        AdamW([("w", nn.Parameter(shared))])
    AdamW([("w", nn.Parameter(shared, requires_grad=False)), ("v", nn.Parameter(torch.zeros(4)))])
